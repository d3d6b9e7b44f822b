"""Logits that are not numbers end a method with the role that they came from, on every path."""

import math
from contextlib import closing

import pytest
import torch

from specbench.api import Decoding, Options, Request, SpecbenchError, Speculative
from specbench.cloud import CloudModel, EdgeModel
from specbench.cloud.served import Served
from specbench.cloud.server.local_channel import LocalChannel
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.engine.finite import NotFiniteError, demand_finite
from specbench.forecast.trace_making import readings
from specbench.precision import audit_model, finite_findings
from specbench.profile import CloudSpec, EdgeSpec, Gate, Profile
from specbench.profile.cost_table import Costs
from specbench.registry import discover
from specbench.testing import answer, tiny_eagle

METHODS = discover().methods
GREEDY = Options(Decoding(), Speculative())
REQUEST = Request(tuple(range(10, 40)), 16, frozenset(), 7)
INF, NAN = math.inf, math.nan


@pytest.fixture
def pair(models):
    """Models of their own, since they are damaged."""
    edge = EdgeModel(EdgeSpec(model=str(models / "draft")))
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    cloud.draft = edge
    return {"edge": edge, "cloud": cloud}


def damage(factory, value=NAN):
    with torch.no_grad():
        factory.engine.loaded.model.lm_head.weight[7, 3] = value


@pytest.mark.parametrize(
    "row", [[1.0, NAN, 2.0], [1.0, INF, 2.0], [-INF, -INF, -INF], [-INF, NAN, 3.0], [INF, -INF, 0.0]]
)
def test_one_bad_logit_condemns_a_row(row):
    with pytest.raises(NotFiniteError, match="the edge model's logits are not finite"):
        demand_finite(torch.tensor([[1.0, 2.0, 3.0], row]), "edge")


def test_tokens_that_cannot_be_said_are_no_alarm():
    demand_finite(torch.tensor([[1.0, -INF, 2.0], [-INF, -INF, -3.0]]), "edge")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("role", ["edge", "cloud"])
def test_every_method_ends_with_the_role_whose_logits_are_no_numbers(pair, name, role, models, tmp_path):
    method = METHODS[name]
    if role not in method.roles:
        pytest.skip(f"{name} has no {role} model")
    if name.startswith("speculative_eagle"):
        folder = tiny_eagle(tmp_path / "eagle", 1, models / "target")
        pair = {**pair, "edge": EdgeModel(EdgeSpec(model=str(folder)))}
    decoder = method.open(pair["edge"], pair["cloud"], GREEDY)
    assert len(answer(decoder, REQUEST)) > 1
    damage(pair[role])
    with pytest.raises(SpecbenchError, match=rf"the {role} model's logits are not finite \(nan\)"):
        answer(decoder, REQUEST)


RULES = {
    "rejection": Options(Decoding(temperature=0.8), Speculative(verification="rejection")),
    "block": Options(Decoding(temperature=0.8, top_k=9), Speculative(verification="block")),
    "one_hot": Options(Decoding(temperature=0.8, top_p=0.9), Speculative(verification="one_hot")),
    "coupled": Options(Decoding(temperature=0.8), Speculative(verification="coupled")),
    "rank": Options(Decoding(), Speculative(verification="rank")),
    "typical": Options(Decoding(temperature=0.8), Speculative(verification="typical")),
    "gated": Options(Decoding(), Speculative(gate=Gate(measure="entropy", threshold=0.5))),
    "penalised": Options(Decoding(repetition_penalty=1.3), Speculative()),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("role", ["edge", "cloud"])
def test_every_rule_refuses_to_judge_what_is_no_number(pair, rule, role):
    decoder = METHODS["speculative"].open(pair["edge"], pair["cloud"], RULES[rule])
    assert len(answer(decoder, REQUEST)) > 1
    damage(pair[role], INF)
    with pytest.raises(SpecbenchError, match=rf"the {role} model's logits are not finite"):
        answer(decoder, REQUEST)


def test_a_pass_in_the_midst_of_a_text_is_looked_at_too(pair):
    decoder = METHODS["cloud_optimized_baseline"].open(pair["edge"], pair["cloud"], GREEDY)
    rounds = decoder.generate(REQUEST)
    assert len([next(rounds) for _ in range(5)]) == 5
    damage(pair["cloud"])
    with pytest.raises(NotFiniteError, match="the cloud model's"):
        next(rounds)


def test_a_server_names_its_model_and_waits_for_no_more_of_that_text(pair):
    served = Served(pair["cloud"])
    channel = LocalChannel(served)
    key = served.facts.tokenizer_sha256
    with closing(Connection(lambda: channel, key, lambda facts: None)) as connection:
        target = RemoteTarget(connection, GREEDY, rolls_back=True)
        target.begin(REQUEST)
        weight = pair["cloud"].engine.loaded.model.lm_head.weight
        healthy = weight.detach().clone()
        damage(pair["cloud"])
        with pytest.raises(SpecbenchError, match="the cloud model's logits are not finite"):
            target.verify()
        assert not channel._service.is_decoding
        with torch.no_grad():
            weight.copy_(healthy)
        assert target.begin(REQUEST).tokens, "another text may begin in its place"


@pytest.mark.parametrize("role", ["edge", "cloud"])
def test_a_trace_is_not_made_of_them(pair, role):
    damage(pair[role])
    with pytest.raises(NotFiniteError, match=f"the {role} model's"):
        readings(pair["edge"].engine, GREEDY, REQUEST, (5, 6, 7), pair["cloud"].engine)


def test_the_audit_names_the_weight_that_is_damaged(pair):
    damage(pair["cloud"])
    audit = audit_model("cloud", "m", pair["cloud"].engine)
    (finding,) = finite_findings([audit], "edge_cloud")
    assert (finding.verdict, finding.subject) == ("differs", "cloud: logits")
    assert "logits are not finite (nan); lm_head.weight holds values that are not finite" in finding.message


def test_the_audit_tells_an_overflow_from_a_damaged_weight_and_offers_a_wider_dtype(models):
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float16"))
    with torch.no_grad():
        layer = cloud.engine.loaded.model.model.layers[0].mlp
        layer.up_proj.weight *= 20_000
        layer.down_proj.weight *= 20_000
    (finding,) = finite_findings([audit_model("cloud", "m", cloud.engine)], "per_role")
    assert finding.message.endswith("its weights are finite, so float16 overflows")
    assert finding.settings == ("cloud.dtype=float32",)


def test_an_honest_model_has_no_such_finding(pair):
    assert finite_findings([audit_model("cloud", "m", pair["cloud"].engine)], "edge_cloud") == []


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 1e-310), ("temperature", 1e-9), ("repetition_penalty", 1e-310)]
)
def test_a_divisor_that_makes_logits_overflow_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Decoding(**{field: value})


def test_the_least_temperature_keeps_the_largest_logits_finite():
    assert math.isfinite(float(torch.tensor(65_504.0) / Decoding(temperature=1e-6).temperature))


@pytest.mark.parametrize("key", ["target.speed", "draft.speed", "link.uplink_mbps", "draft.step_ms"])
@pytest.mark.parametrize("value", [1e-310, 1e300])
def test_a_cost_that_overflows_what_is_made_of_it_is_refused(key, value):
    table = Costs.model_validate({"draft": {"step_ms": 1.0}, "target": {"verify_ms": {1: 30.0}}})
    with pytest.raises(SpecbenchError, match=key):
        table.with_values({key: value})


def test_the_profile_says_which_key_overflows(models):
    values = {"edge": {"model": "x"}, "cloud": {"model": "x"}, "decoding": {"temperature": 1e-310}}
    with pytest.raises(ValueError, match=r"decoding\.temperature"):
        Profile.model_validate(values)
