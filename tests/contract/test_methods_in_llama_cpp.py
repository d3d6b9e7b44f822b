"""Methods keep their contract, and the control's texts, where llama.cpp drafts."""

import pytest
from builders import PLAIN
from gguf_models import tiny_gguf

from specbench.api import Decoding, Options, SpecbenchError, Speculative, SpeculativeMethod
from specbench.cloud import CloudModel, EdgeModel
from specbench.profile import CloudSpec, EdgeSpec
from specbench.registry import discover
from specbench.testing import Contract

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")

METHODS = discover().methods
TREES = ("speculative_ahead", "speculative_tree")
DRAFTING = [
    name
    for name, method in METHODS.items()
    if isinstance(method, SpeculativeMethod) and "edge" in method.roles and not method.helpers(PLAIN)
]
RULES = {"coupled": 0.9, "rejection": 0.9, "one_hot": 0.9, "block": 0.9, "typical": 0.0, "rank": 0.0}


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


@pytest.mark.parametrize("name", [name for name in DRAFTING if name not in TREES])
def test_method_keeps_the_contract(name, pair):
    keeps(METHODS[name], PLAIN, pair)


@pytest.mark.parametrize("name", TREES)
def test_a_method_of_trees_is_refused(name, pair):
    with pytest.raises(SpecbenchError, match="cannot read a tree of drafted tokens"):
        METHODS[name].open(*pair(), PLAIN)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_judges_what_llama_cpp_drafts(rule, pair):
    keeps(
        METHODS["speculative"],
        Options(Decoding(temperature=RULES[rule]), Speculative(verification=rule)),
        pair,
    )


@pytest.mark.parametrize("window", [2, 4])
def test_verifications_in_flight_keep_the_contract(window, pair):
    keeps(METHODS["speculative"], Options(Decoding(), Speculative(window=window)), pair)
