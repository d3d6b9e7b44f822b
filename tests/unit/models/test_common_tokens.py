"""`speculative.cross_vocabulary`: a draft of another family, with other ids and partly other tokens."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding
from transformers import PreTrainedTokenizerFast

from specbench.api import AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.models.common_tokens import CommonTokens
from specbench.models.retokenizing import Retokenizer
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.speculation.text_drafter import TextDrafter
from specbench.testing import answer, tiny_llama, tiny_tokenizer, tokens_of

DTYPE = "float64"
PAIRS = {"common": "abcdefghijklmnopqrstuvwxyz .,", "own": ["th", "he", "ing", "###"]}


def other_tokenizer():
    """Lower case alone, in another order, four tokens of its own, and 45 rows in all."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    tokens = ["[pad]", "[unk]", "[end]", *PAIRS["own"], *reversed(PAIRS["common"])]
    tokens += [f"^{index}" for index in range(len(tokens), 45)]
    known = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.WordLevel(known, unk_token="[unk]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"th|he|ing|[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[unk]", eos_token="[end]")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    tiny_llama(folder / "target", seed=2)
    tiny_llama(folder / "draft", seed=3, num_hidden_layers=1, vocab_size=45)
    other_tokenizer().save_pretrained(folder / "draft")
    return folder


@pytest.fixture(scope="module")
def pair(folders):
    edge = EdgeModel(EdgeSpec(model=str(folders / "draft"), dtype=DTYPE))
    cloud = CloudModel(CloudSpec(model=str(folders / "target"), device="cpu", dtype=DTYPE))
    assert "the draft can say 29 of the target's 96 tokens (30%)" in edge.demand_same_tokens(cloud, "tli")
    return edge, cloud


@pytest.fixture(scope="module")
def writers(folders):
    """The same pair, whose draft writes text."""
    edge = EdgeModel(EdgeSpec(model=str(folders / "draft"), dtype=DTYPE))
    cloud = CloudModel(CloudSpec(model=str(folders / "target"), device="cpu", dtype=DTYPE))
    assert "(30% of the target's tokens are the draft's too)" in edge.demand_same_tokens(cloud, "slem")
    return edge, cloud


def test_every_token_that_both_have_is_known_by_its_text(pair):
    known, (edge, cloud) = pair[0].draft_vocabulary, pair
    assert isinstance(known, CommonTokens)
    for text in PAIRS["common"]:
        (target_id,) = cloud.tokenizer.encode(text)
        assert known.to_draft([target_id]) == edge.tokenizer.encode(text, add_special_tokens=False)
    assert len(known.target_ids) == len(PAIRS["common"])


def test_a_token_that_the_draft_lacks_is_read_as_the_end_of_its_text(pair):
    known, (edge, cloud) = pair[0].draft_vocabulary, pair
    assert known.to_draft(cloud.tokenizer.encode("Q")) == edge.tokenizer.encode("[unk]")
    unknown = cloud.tokenizer.convert_tokens_to_ids("<|end|>")
    assert known.to_draft([unknown]) == edge.tokenizer.encode("<|end|>")[-1:]


def test_only_common_tokens_have_a_probability(pair):
    known = pair[0].draft_vocabulary
    rows = pair[0].engine.session().extend([20, 21, 22])
    sayable = torch.zeros(96, dtype=torch.bool)
    sayable[list(known.target_ids)] = True
    assert torch.isfinite(rows[:, sayable]).all()
    assert torch.isneginf(rows[:, ~sayable]).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompt=st.lists(st.integers(4, 95), min_size=1, max_size=40),
    rule=st.sampled_from(["greedy", "coupled"]),
    way=st.sampled_from(["tli", "slem"]),
    window=st.sampled_from([1, 3]),
    draft_length=st.integers(1, 8),
    budget=st.integers(1, 30),
    seed=st.integers(0, 2**63 - 1),
)
def test_its_text_is_the_controls(pair, writers, prompt, rule, way, window, draft_length, budget, seed):
    decoding = Decoding(temperature=0.8 if rule == "coupled" else 0.0)
    options = Options(decoding, Speculative(draft_length=draft_length, verification=rule, window=window))
    request = Request(tuple(prompt), budget, frozenset(), seed)
    control = answer(AutoregressiveDecoder(pair[1].target(options)), request)
    models = pair if way == "tli" else writers
    assert tokens_of(answer(SpeculativeDecoding().open(*models, options), request)) == tokens_of(control)


def test_a_draft_of_another_familys_words_is_read_as_the_target_writes_them(writers):
    read = Retokenizer(writers[0].tokenizer, writers[1].tokenizer)
    ids = read.cloud.encode("the thing is, he sings.")
    text = read.to_draft(ids)
    assert read.edge.convert_ids_to_tokens(text)[:5] == ["th", "e", " ", "th", "ing"]
    assert read.to_target(text[3:], text[:3], ids[:4]) == ids[4:]
    assert read.to_target(text[3:], [], []) == ids[4:]


def retold(folder, source, order):
    """A copy of a model with its ids in another order, and a tokenizer that reads each of its tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source)
    for matrix in (model.model.embed_tokens.weight, model.lm_head.weight):
        matrix.data = matrix.data[order]
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    known = json.loads((folder / "tokenizer.json").read_text())
    place = {int(old): new for new, old in enumerate(order)}
    known["pre_tokenizer"]["pattern"]["Regex"] = r"~\d\d|[\s\S]"
    known["model"]["vocab"] = {token: place[index] for token, index in known["model"]["vocab"].items()}
    for added in known["added_tokens"]:
        added["id"] = place[added["id"]]
    (folder / "tokenizer.json").write_text(json.dumps(known))
    return str(folder)


@pytest.mark.parametrize("window", [1, 3])
def test_a_draft_that_writes_the_targets_text_in_other_ids_is_accepted(folders, tmp_path, window):
    shuffled = torch.randperm(96, generator=torch.Generator().manual_seed(1))
    target, draft = (
        retold(tmp_path / name, folders / "target", order)
        for name, order in (("target", torch.arange(96)), ("draft", shuffled))
    )
    cloud = CloudModel(CloudSpec(model=target, device="cpu", dtype=DTYPE))
    edge = EdgeModel(EdgeSpec(model=draft, dtype=DTYPE))
    assert "100% of the target's tokens" in edge.demand_same_tokens(cloud, "slem")
    options = Options(Decoding(), Speculative(window=window))
    request = Request(tuple(cloud.tokenizer.encode("the thing is, he sings.")), 60, frozenset())
    rounds = answer(SpeculativeDecoding().open(edge, cloud, options), request)
    assert tokens_of(rounds) == tokens_of(answer(AutoregressiveDecoder(cloud.target(options)), request))
    assert sum(part.accepted or 0 for part in rounds) > 0.9 * sum(part.drafted or 0 for part in rounds)


def test_a_draft_that_has_no_room_left_proposes_nothing(writers):
    drafter = TextDrafter(writers[0].engine, writers[0].retokenizer, context_length=8)
    drafter.begin(Request(tuple(range(10, 16)), 4, frozenset()))
    assert len(drafter.propose(2)) <= 2
    drafter.commit(range(10, 14), 0)
    assert drafter.propose(2).tokens == ()
    assert list(drafter.decode_alone()) == []


def test_a_pair_of_two_families_is_refused_without_the_key_and_runs_with_it(specbench, profile, folders):
    path = profile(edge={"model": str(folders / "draft")}, cloud={"model": str(folders / "target")})
    refused = specbench("run", "speculative", "--profile", path)
    assert refused.code == ExitCode.MODEL
    assert "edge and cloud have different vocabularies" in refused.err
    assert "--set speculative.cross_vocabulary=tli" in refused.err
    key = ("--set", "speculative.cross_vocabulary=true")
    done = specbench("run", "speculative", "hf_assisted", "--profile", path, *key, "--json")
    assert done.code == 0, done.err
    assert "the draft can say 29 of the target's 96 tokens (30%)" in done.err
    assert done.json["methods"]["speculative"]["exact_match"] == 1
    assert done.json["methods"]["hf_assisted"]["exact_match"] == 1


def test_a_draft_that_writes_text_runs_and_what_needs_its_tokens_is_refused(
    specbench, profile, folders, tmp_path
):
    path = profile(edge={"model": str(folders / "draft")}, cloud={"model": str(folders / "target")})
    key = ("--profile", path, "--set", "speculative.cross_vocabulary=slem")
    done = specbench("run", "speculative", *key, "--json")
    assert done.code == 0, done.err
    assert "(30% of the target's tokens are the draft's too)" in done.err
    assert done.json["methods"]["speculative"]["exact_match"] == 1
    sampled = ("--set", "speculative.verification=rejection", "--set", "decoding.temperature=1")
    trace = ("trace", "--out", tmp_path / "trace.json")
    for command in (("run", "hybrid"), ("run", "edge_baseline"), ("run", "speculative", *sampled), trace):
        refused = specbench(*command, *key)
        assert refused.code == ExitCode.USAGE
        assert "speculative.cross_vocabulary: slem drafts text" in refused.err
        assert "--set speculative.cross_vocabulary=tli" in refused.err


@pytest.mark.slow
def test_its_costs_are_measured_and_its_agreement_traced(specbench, profile, folders, tmp_path):
    path = profile(edge={"model": str(folders / "draft")}, cloud={"model": str(folders / "target")})
    key = ("--profile", path, "--set", "speculative.cross_vocabulary=true")
    trace, costs = tmp_path / "trace.json", tmp_path / "costs.yaml"
    for command in (("limits", "--costs", costs), ("trace", "--out", trace)):
        done = specbench(*command, *key)
        assert done.code == 0, done.err
    assert specbench("replay", trace, "--costs", costs).code == 0


def test_a_method_without_a_draft_model_pairs_with_nothing(folders, profile, specbench):
    path = profile(edge={"model": str(folders / "draft")}, cloud={"model": str(folders / "target")})
    assert specbench("run", "suffix", "--profile", path).code == 0


def test_two_families_without_a_common_token_are_refused():
    with pytest.raises(SpecbenchError, match="no token in common"):
        CommonTokens.of(other_tokenizer(), tiny_tokenizer(), draft_size=3)
