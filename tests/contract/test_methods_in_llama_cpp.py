"""Methods keep their contract, and the control's texts, where llama.cpp drafts."""

import pytest
from builders import PLAIN
from gguf_models import tiny_gguf

from specbench.api import Decoding, Options, Request, SpecbenchError, Speculative, SpeculativeMethod
from specbench.cloud import CloudModel, EdgeModel
from specbench.profile import CloudSpec, EdgeSpec
from specbench.registry import discover
from specbench.testing import PROMPT, Contract, answer

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")

METHODS = discover().methods
REFUSED = ("speculative_ahead", "speculative_eagle", "speculative_eagle_tree", "speculative_tree")
DRAFTING = [
    name
    for name, method in METHODS.items()
    if isinstance(method, SpeculativeMethod) and "edge" in method.roles and not method.helpers(PLAIN)
]
TEMPERATURES = {
    "greedy": 0.0, "coupled": 0.9, "rejection": 0.9, "one_hot": 0.9, "block": 0.9, "typical": 0.9, "rank": 0.9,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")

    def make():
        draft = str(folder / "draft.gguf")
        return (
            EdgeModel(EdgeSpec(model=draft, backend="llama_cpp")),
            CloudModel(CloudSpec(model=str(folder / "target.gguf"), device="cpu")),
        )

    tiny_gguf(folder / "draft.gguf", seed=1, num_hidden_layers=1)
    tiny_gguf(folder / "target.gguf", seed=2)
    return make


def keeps(method, options, pair):
    for check in Contract(method, options, *pair()).checks:
        check()


@pytest.mark.parametrize("name", [name for name in DRAFTING if name not in REFUSED])
def test_method_keeps_the_contract(name, pair):
    keeps(METHODS[name], PLAIN, pair)


@pytest.mark.parametrize("name", REFUSED)
def test_a_method_of_trees_or_hidden_states_is_refused(name, pair):
    with pytest.raises(SpecbenchError, match=r"cannot read a tree of drafted tokens|reads no hidden states"):
        METHODS[name].open(*pair(), PLAIN)


@pytest.mark.parametrize("rule", TEMPERATURES)
def test_every_rule_judges_its_drafts_as_those_of_our_engine(rule, pair):
    options = Options(Decoding(temperature=TEMPERATURES[rule]), Speculative(verification=rule))
    edge, cloud = pair()
    ours = EdgeModel(EdgeSpec(model=edge.spec.model))
    for seed in range(4):
        request = Request(PROMPT, 24, frozenset(), seed)
        found, expected = (
            [
                (part.tokens, part.drafted, part.accepted)
                for part in answer(METHODS["speculative"].open(draft, cloud, options), request)
            ]
            for draft in (edge, ours)
        )
        assert found == expected


def test_shared_noise_keeps_the_contract(pair):
    keeps(METHODS["speculative"], Options(Decoding(temperature=0.9), Speculative(verification="coupled")), pair)


@pytest.mark.parametrize("window", [2, 4])
def test_verifications_in_flight_keep_the_contract(window, pair):
    keeps(METHODS["speculative"], Options(Decoding(), Speculative(window=window)), pair)
