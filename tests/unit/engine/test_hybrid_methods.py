"""Hybrids of attention and recurrent or convolutional layers: what drafts chains says what the control says."""

import pytest
from zoo.building import build

from specbench.api import CloudModel, EdgeModel, Options
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.registry import discover
from specbench.testing import check_texts

METHODS = discover().methods
NEED_MORE = {  # trees, hidden states of a Llama, transformers' own caches
    "speculative_tree", "speculative_ahead", "token_recycling", "speculative_eagle", "speculative_eagle_tree",
    "hf_assisted", "hf_assisted_dynamic",
}  # fmt: skip
CHAINS = [name for name, method in METHODS.items() if name not in NEED_MORE and "cloud" in method.roles]
OWN = {"early_exit": {"layers": 2}}  # the first layer alone has no attention in most of them
RULES = {
    "greedy": Options(Decoding(), Speculative(), OWN),
    "coupled": Options(Decoding(temperature=0.8), Speculative(verification="coupled"), OWN),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["granitemoehybrid", "falcon_h1", "lfm2", "qwen3_next"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    build(request.param, folder)
    target, draft = (str(folder / part) for part in ("target", "draft"))
    return request.param, EdgeModel(EdgeSpec(model=draft)), CloudModel(CloudSpec(model=target, device="cpu"))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CHAINS)
def test_what_drafts_a_chain_says_what_the_control_says(pair, name, rule):
    family, edge, cloud = pair
    if (family, name) == ("qwen3_next", "early_exit"):
        pytest.skip("its last layer is the first one with attention")
    method, options = METHODS[name], RULES[rule]
    check_texts(method, method.open(edge, cloud, options), cloud, options)
