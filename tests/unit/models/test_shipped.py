"""The drafts that lie in the package: small, described, and those that the profiles use."""

import json

import pytest
from safetensors import safe_open

from specbench.api import CloudModel, EdgeModel
from specbench.errors import SpecbenchError
from specbench.models import embedded, shipped
from specbench.profile import load_profile


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_draft_is_small_and_says_what_it_is(name):
    folder = shipped.folder_of(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6
    card = (folder / "README.md").read_text()
    assert "specbench distill" in card
    assert "agreement" in card
    with safe_open(folder / "model.safetensors", "pt") as weights:
        kinds = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
        assert kinds == {"BF16"}
        rows = weights.get_slice("model.embed_tokens.weight").get_shape()[0]
    assert len(json.loads((folder / "vocab_map.json").read_text())["target_ids"]) == rows


def test_the_shipped_drafts_are_small_together():
    assert sum(path.stat().st_size for path in shipped.FOLDER.glob("*/*")) < 60e6


@pytest.mark.parametrize("profile", ["default", "memory_optimized"])
def test_the_first_profiles_draft_with_a_shipped_draft_in_float32(profile):
    edge = load_profile(profile).edge
    assert edge.model.removeprefix(embedded.PREFIX) in shipped.names()
    assert (edge.dtype, edge.layers) == ("float32", None)


@pytest.mark.real_pair
def test_the_draft_that_reads_hidden_states_fits_the_default_target():
    profile = load_profile("default", ["edge.model=embedded:smollm2-135m-eagle"])
    edge, cloud = EdgeModel(profile.edge), CloudModel(profile.cloud)
    assert edge.reads_features
    edge.demand_same_tokens(cloud)


@pytest.mark.real_pair
def test_the_default_draft_speaks_the_default_targets_tokens():
    profile = load_profile("default")
    EdgeModel(profile.edge).demand_same_tokens(CloudModel(profile.cloud))


def test_a_misspelt_embedded_model_is_answered_with_the_nearest_name():
    with pytest.raises(SpecbenchError) as error:
        embedded.lookup("smollm2-135m-drafts")
    assert "smollm2-135m-draft" in error.value.hint
