"""The target's first layers draft for the rest of it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.early_exit import EarlyExit
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.api import RULES, AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request, SpecbenchError
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.results.store import RunStore
from specbench.testing import answer, tiny_llama, tokens_of

# In float64 a wide pass and single steps agree to about 1e-15, so no tie can hide a bug.
DTYPE = "float64"
PROMPT = tuple(range(20, 50))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A target of five layers."""
    return tiny_llama(tmp_path_factory.mktemp("deep") / "target", seed=7, num_hidden_layers=5)


@pytest.fixture(scope="module")
def cloud(folder):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", dtype=DTYPE))


def options_of(layers=None, decoding=None, **speculative):
    own = {"early_exit": {"layers": layers}} if layers else {}
    return Options(decoding or Decoding(), Speculative(**speculative), own)


def rounds_of(cloud, options, request):
    return answer(EarlyExit().open(None, cloud, options), request)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rule=st.sampled_from(sorted(name for name in RULES if RULES[name].repeats_control)),
    layers=st.integers(1, 5) | st.none(),
    draft_length=st.integers(1, 8) | st.just("auto"),
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    confidence_stop=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 2**63 - 1),
)
def test_its_text_is_the_controls(cloud, rule, layers, draft_length, budget, stops, confidence_stop, seed):
    decoding = Decoding() if RULES[rule].needs_greedy else Decoding(temperature=0.8)
    options = options_of(
        layers, decoding, verification=rule, draft_length=draft_length, confidence_stop=confidence_stop
    )
    request = Request(PROMPT, budget, frozenset(stops), seed)
    control = answer(AutoregressiveDecoder(cloud.target(options)), request)
    assert tokens_of(rounds_of(cloud, options, request)) == tokens_of(control)


@pytest.mark.parametrize(("layers", "drafting"), [(None, 1), (3, 3)])
@pytest.mark.parametrize("rule", ["greedy", "rejection"])
def test_its_rounds_are_those_of_a_draft_model_of_the_same_layers(cloud, folder, layers, drafting, rule):
    decoding = Decoding() if rule == "greedy" else Decoding(temperature=0.8)
    options, request = options_of(layers, decoding, verification=rule), Request(PROMPT, 40, frozenset(), 3)
    edge = EdgeModel(EdgeSpec(model=str(folder), layers=drafting, dtype=DTYPE))
    expected = answer(SpeculativeDecoding().open(edge, cloud, options), request)
    found = rounds_of(cloud, options, request)
    assert [(part.tokens, part.drafted, part.accepted) for part in found] == [
        (part.tokens, part.drafted, part.accepted) for part in expected
    ]


def test_all_of_the_layers_are_refused_nothing(cloud):
    rounds = rounds_of(cloud, options_of(layers=5), Request(PROMPT, 31, frozenset()))
    assert [part.accepted for part in rounds[1:]] == [4] * 6


def test_more_layers_than_the_target_has_are_refused(cloud):
    with pytest.raises(SpecbenchError, match="has 5 layers, fewer than layers: 6"):
        rounds_of(cloud, options_of(layers=6), Request(PROMPT, 4, frozenset()))


def test_a_sweep_over_layers_loads_no_edge_model(specbench, profile, folder, tmp_path):
    path = profile(cloud={"model": str(folder)}, engine={"kind": "auto"})
    over = ("--over", "methods.early_exit.layers=1,5")
    done = specbench("sweep", "early_exit", "--profile", path, *over, "--json")
    assert done.code == 0, done.err
    few, all_ = [row for row in done.json["rows"] if row["method"] == "early_exit"]
    assert few["acceptance_rate"] < all_["acceptance_rate"] == 1
    manifest = RunStore(tmp_path / "runs").read(RunStore(tmp_path / "runs").find(None)).manifest
    assert manifest.models.keys() == {"cloud"}
    assert manifest.engines == {"cloud": "eager"}
    assert (manifest.unverified, manifest.other_models) == ({}, ())
