"""Claims: what a query finds in a comparison, and how somebody writes claims."""

import json

import pytest
from comparisons import pair, run

from specbench.errors import SpecbenchError
from specbench.evidence.bundle import compared
from specbench.evidence.claims import answer, default_claims
from specbench.evidence.claims_file import as_yaml, asked_claims, claimed


@pytest.fixture(scope="module")
def document():
    return compared([run(pair(24, 1.5, 0.05, categories=2), status="finished")], allow_unfair=False)


def test_a_query_finds_a_figure_and_the_interval_beside_it(document):
    row = document["methods"]["m"]
    assert answer("methods/m/speedup_vs_control", document, "") == (
        row["speedup_vs_control"],
        tuple(row["speedup_interval"]),
    )
    assert answer("methods/m/tpot_ms", document, "") == (row["tpot_ms"], None)
    part = next(each for each in document["categories"] if each["category"] == "c1")
    found = answer("categories/method=m/category=c1/speedup", document, "")
    assert found == (part["speedup"], tuple(part["interval"]))


def test_another_ratio_does_not_take_the_interval_of_the_speed_up():
    row = {"speedup_vs_control": 1.5, "speedup_vs_cloud_baseline": 2.0, "speedup_interval": [1.4, 1.6]}
    assert answer("methods/m/speedup_vs_cloud_baseline", {"methods": {"m": row}}, "") == (2.0, None)


def test_names_of_rows_may_hold_slashes_and_dots():
    rows = {"m@edge.model=./x/y": {"tpot_ms": 1.0}, "m": {"tpot_ms": 2.0}}
    assert answer("methods/m@edge.model=./x/y/tpot_ms", {"methods": rows}, "")[0] == 1.0


def test_an_entry_of_a_list_is_told_by_one_value_or_by_several():
    entries = [{"roles": ["edge", "cloud"], "joules": 1.0}, {"roles": ["edge"], "joules": 2.0}]
    document = {"methods": {"m": {"energy": entries}}}
    assert answer("methods/m/energy/roles=edge,cloud/joules", document, "")[0] == 1.0
    assert answer("methods/m/energy/roles=edge/joules", document, "")[0] == 2.0


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("methods/nobody/tpot_ms", "there is no nobody"),
        ("methods/m/tpot_ms/more", "there is nothing below"),
        ("methods/m", "is no single figure"),
        ("categories/0/speedup", "there is no 0"),
        ("categories/method=m/speedup", "means 2 entries"),
        ("__class__", "there is no __class__"),
    ],
)
def test_a_query_that_leads_to_no_figure_is_refused_with_the_place(document, query, told):
    with pytest.raises(SpecbenchError, match=f"claim x: {query} .*{told}"):
        answer(query, document, "claim x")


def test_by_default_speed_and_identity_of_each_method_are_claimed(document):
    found = {claim.id: claim for claim in default_claims(document)}
    assert [*found] == ["m-speedup", "m-verdict", "m-identity", "m-bugs"]
    row = document["methods"]["m"]
    low, high = row["speedup_interval"]
    assert found["m-speedup"].in_words == (
        f"m decodes at {row['speedup_vs_control']:.2f} times the speed of {row['reference']} per token "
        f"(95 % interval {low:.2f} to {high:.2f})."
    )
    assert (found["m-verdict"].value, found["m-identity"].value, found["m-bugs"].value) == ("faster", 1.0, 0)


def test_rows_whose_names_differ_in_signs_alone_have_ids_of_their_own(document):
    rows = {"m@a=1": document["methods"]["m"], "m@a+1": document["methods"]["m"]}
    ids = [claim.id for claim in default_claims({"methods": rows})]
    assert len(ids) == len(set(ids)) == 8


def test_claims_are_read_back_as_they_were_written(document):
    stated = default_claims(document)
    assert claimed(as_yaml(stated), "claims.yaml") == stated


def test_figures_in_a_file_of_claims_are_computed_and_never_taken(tmp_path, document):
    path = tmp_path / "claims.yaml"
    claim = {"id": "x", "sentence": "It is {value}.", "query": "methods/m/bugs", "value": 99, "interval": None}
    path.write_text(json.dumps({"claims": [claim]}))
    (found,) = asked_claims(path, document)
    assert (found.value, found.in_words) == (0, "It is 0.")


GOOD = {"id": "x", "sentence": "s", "query": "methods/m/bugs"}


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ([{**GOOD, "id": "X Y"}], "its id is not made of"),
        ([{**GOOD, "sentence": 3}], "has no sentence"),
        ([{**GOOD, "qury": "a"}], "there is no key qury"),
        ([GOOD, GOOD], "claim x stands there twice"),
        ("all", "claims is not a list"),
        ([{"id": "x", "sentence": "s"}], "has no query"),
    ],
)
def test_a_malformed_claim_is_one_error(tmp_path, document, claims, told):
    path = tmp_path / "claims.yaml"
    path.write_text(json.dumps({"claims": claims}))
    with pytest.raises(SpecbenchError, match=told):
        asked_claims(path, document)
