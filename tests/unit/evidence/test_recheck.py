"""A recheck names every figure that does not follow from the rounds, however it was changed."""

import hashlib
import json
import re
from random import Random

import pytest
from bundles import add_run

from specbench.errors import SpecbenchError
from specbench.evidence.bundle import read
from specbench.evidence.recheck import SENTENCES, recheck

ROUNDS, FIGURES, CLAIMS = "runs/r1/generations.jsonl", "comparison.json", "claims.yaml"


def forged(files):
    """With hashes that fit, as somebody makes them who knows how."""
    manifest = json.loads(files["runs/r1/manifest.json"])
    manifest["generations"]["sha256"] = hashlib.sha256(files[ROUNDS]).hexdigest()
    files["runs/r1/manifest.json"] = json.dumps(manifest).encode()
    index = json.loads(files["bundle.json"])
    index["files"] = {name: hashlib.sha256(files[name]).hexdigest() for name in index["files"] if name in files}
    files["bundle.json"] = json.dumps(index).encode()
    return files


def figures(found):
    return {each.figure for each in found.differences}


def test_a_bundle_holds_and_its_figures_are_many(bundled):
    found = recheck(read(bundled()))
    assert found.holds
    assert found.figures > 70
    assert found.made_by == found.checked_by


def slower(files):
    """The last arrival of one answer, which several figures are made of."""
    files[ROUNDS] = files[ROUNDS].replace(b"420.0", b"419.0", 1)
    return files


def test_a_changed_round_is_named_by_its_file_and_by_the_figures_that_it_changes(bundled):
    found = recheck(read(bundled(change=slower)))
    assert f"{ROUNDS} is not as it was bundled: its SHA-256 differs from that in bundle.json" in found.changed
    assert "generations.jsonl of run r1 is not as the run wrote it" in found.changed[-1]
    assert {"methods/m/speedup_vs_control", "claim m-speedup", "the interval of claim m-speedup"} <= figures(
        found
    )


def test_a_changed_round_with_forged_hashes_is_found_by_its_figures(bundled):
    found = recheck(read(bundled(change=lambda files: forged(slower(files)))))
    assert found.changed == ()
    assert "claim m-speedup" in figures(found)
    assert not found.holds


def test_a_changed_claim_with_forged_hashes_is_named(bundled):
    def change(files):
        text = files[CLAIMS].decode()
        files[CLAIMS] = re.sub(r"value: 1\.\d+", "value: 1.99", text, count=1).encode()
        return forged(files)

    found = recheck(read(bundled(change=change)))
    assert [each.figure for each in found.differences] == ["claim m-speedup"]
    assert found.differences[0].in_words.startswith(
        "claim m-speedup is 1.99 in the bundle, and its rounds give 1."
    )


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("methods", "m", "tpot_ms"), 1.0),
        (("methods", "m", "verdict"), "slower"),
        (("methods", "m", "bugs"), 3),
        (("methods", "m", "lossless"), False),
        (("methods", "m", "acceptance_rate"), 0.9),
        (("categories", 0, "speedup"), 9.0),
        (("control",), "m"),
    ],
)
def test_a_changed_figure_of_a_table_with_forged_hashes_is_named_by_its_place(bundled, place, value):
    def change(files):
        document = here = json.loads(files[FIGURES])
        for key in place[:-1]:
            here = here[key]
        here[place[-1]] = value
        files[FIGURES] = json.dumps(document).encode()
        return forged(files)

    (found,) = recheck(read(bundled(change=change))).differences
    assert found.figure.startswith(str(place[0]))
    assert found.figure.endswith(str(place[-1]))
    assert found.claimed == value


def test_a_row_that_was_taken_out_of_the_table_is_named(bundled):
    def change(files):
        document = json.loads(files[FIGURES])
        del document["methods"]["m"]
        files[FIGURES] = json.dumps(document).encode()
        return forged(files)

    found = recheck(read(bundled(change=change)))
    assert figures(found) == {"methods/m"}
    assert found.differences[0].claimed == "nothing"


def test_words_about_figures_may_be_worded_anew_and_floats_added_in_another_order(bundled):
    def change(files):
        document = json.loads(files[FIGURES])
        document["methods"]["m"]["statement"] = "it is good"
        document["methods"]["m"]["tpot_ms"] *= 1 + 1e-12
        document["notes"] = ["as we say now"]
        files[FIGURES] = json.dumps(document).encode()
        return forged(files)

    assert recheck(read(bundled(change=change))).holds
    assert "verdict" not in SENTENCES


def test_answers_that_are_missing_are_told(bundled):
    def change(files):
        files[ROUNDS] = b"".join(files[ROUNDS].splitlines(keepends=True)[:-1])
        return files

    found = recheck(read(bundled(change=change)))
    assert any("1 of 24 answers of run r1 are missing" in line for line in found.changed)
    assert not found.holds


@pytest.mark.parametrize("seed", range(16))
def test_strange_records_are_rechecked_or_are_one_error(bundled, seed):
    """A value anywhere in the records becomes another one, with hashes that fit."""
    random = Random(seed)

    def change(files):
        name = random.choice(["runs/r1/manifest.json", ROUNDS])
        lines = files[name].split(b"\n") if name == ROUNDS else [files[name]]
        number = random.randrange(len(lines) - 1) if name == ROUNDS else 0
        document = json.loads(lines[number])
        here, key = random.choice(list(places(document)))
        here[key] = random.choice([None, 0, -1, 1e308, "", "x", [], {}, True])
        lines[number] = json.dumps(document).encode()
        files[name] = b"\n".join(lines)
        return forged(files)

    path, code = bundled(change=change), 0
    try:
        recheck(read(path))
    except SpecbenchError as error:
        code = error.exit_code
    assert code in (0, 5, 8)


def places(value):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def test_two_runs_are_rechecked_side_by_side(bundled, store):
    add_run(store, "r2", factor=1.2)
    found = read(bundled())
    assert {"m@r1", "m@r2"} < found.document["methods"].keys()
    assert recheck(found).holds
