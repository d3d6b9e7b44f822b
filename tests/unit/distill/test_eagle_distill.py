"""`specbench distill --kind eagle`: a draft that reads hidden states, for a tiny target."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.distill import heldout
from specbench.distill.corpus import Corpus
from specbench.distill.distillation import distil
from specbench.distill.eagle_fit import fit
from specbench.distill.eagle_student import build_eagle, features_of
from specbench.distill.machine import fast_dtype
from specbench.distill.settings import Settings
from specbench.distill.shards import states_path
from specbench.distill.states import States
from specbench.distill.student import Student
from specbench.distill.text import PROMPT
from specbench.distill.training import Trainer
from specbench.distill.unrolling import unrolled
from specbench.errors import SpecbenchError
from specbench.models.loading import load_model
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.results.records import Prompt
from specbench.speculation.fed_session import FedSession
from specbench.testing import answer, tiny_eagle, tiny_llama, tokens_of

HELDOUT = [Prompt("1", "talk", ("hello?", "and then?")), Prompt("2", "sums", ("1 + 2 =",))]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("distill") / "target", seed=2, num_hidden_layers=3)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("distill") / "asked.jsonl"
    rows = [{"question_id": i, "category": "talk", "turns": [f"say {LETTERS[i:]}", "again"]} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def small(target, prompts, out, **other):
    values = {
        "draft_vocab": 64, "prompts": str(prompts), "tokens": 1600, "steps": 60, "jobs_per_shard": 8,
        "answer_tokens": 32, "batch_tokens": 512, "heldout_tokens": 16, "evaluations": 3,
        "learning_rate": 5e-3, "kind": "eagle", "loss": "kl+tv",
    }  # fmt: skip
    return Settings(str(target), out, **{**values, **other})


@pytest.fixture(scope="module")
def finished(target, prompts, tmp_path_factory):
    settings = small(target, prompts, tmp_path_factory.mktemp("finished") / "draft")
    return settings, distil(settings, HELDOUT)


def pair_of(settings):
    edge = EdgeModel(EdgeSpec(model=str(settings.out), vocab_map="vocab_map.json"))
    return edge, CloudModel(CloudSpec(model=settings.target, device="cpu"))


def test_the_loss_falls_and_the_report_says_what_is_accepted_at_each_position(finished):
    settings, report = finished
    state = torch.load(settings.work / "state.pt", weights_only=True)
    losses = [each["loss"] for each in state["progress"]["evaluations"]]
    assert losses[-1] < 0.8 * losses[0]
    assert (report["kind"], report["layers"]) == ("eagle", [1, 2])
    for figures in report["heldout"].values():
        assert len(figures["acceptance"]) == heldout.DRAFT_LENGTH
    card = (settings.out / "README.md").read_text()
    assert "reads the target's hidden states of layers 1, 2" in card
    assert f"--target {settings.target} --kind eagle --draft-vocab 64" in card
    assert "--loss kl+tv" in card


def test_a_trained_draft_is_accepted_more_often_than_a_random_one(finished, tmp_path):
    from specbench.plugins.speculative_eagle import SpeculativeEagle

    settings, _ = finished
    edge, cloud = pair_of(settings)
    edge.demand_same_tokens(cloud)
    options = Options(Decoding(), Speculative())
    random = EdgeModel(EdgeSpec(model=str(tiny_eagle(tmp_path / "random", 4, settings.target))))
    corpus = Corpus(settings.work / "text")

    def accepted(draft):
        decoder, texts, stood = SpeculativeEagle().open(draft, cloud, options), [], 0
        for begin, end in itertools.pairwise(corpus.offsets[:7]):
            prompt = corpus.tokens[begin:end][corpus.kinds[begin:end] == PROMPT].tolist()
            rounds = answer(decoder, Request(tuple(prompt), 30, frozenset()))
            texts.append(tokens_of(rounds))
            stood += sum(part.accepted or 0 for part in rounds)
        return texts, stood

    (texts, stood), (other_texts, other_stood) = accepted(edge), accepted(random)
    assert texts == other_texts
    assert stood > 3 * other_stood + 5


def test_what_is_scored_is_what_a_draft_proposes(finished):
    """The unrolled steps are those of the drafter's own session, wherever a draft begins."""
    settings, _ = finished
    edge, cloud = pair_of(settings)
    model, tokens = edge.engine.loaded.model, list(range(20, 32))
    layers = tuple(model.config.feature_layers)
    states = features_of(cloud.engine.loaded.model, torch.tensor([tokens]), layers)
    ids = torch.tensor([edge.engine.to_own_ids(tokens[1:])])
    with torch.inference_mode():
        steps = list(unrolled(model, model.fuse(states[:, :-1].flatten(2)), ids, torch.arange(ids.shape[1]), 3))
    for begin in (4, 8):
        session = FedSession(edge.engine.session(40), "edge", 40, model.fused)
        session.feed(states[0, : begin + 1], tokens)
        session.extend(tokens[1 : begin + 1])
        for step in range(3):
            logits = session.extend([tokens[begin + 1 + step]])[-1]
            wanted = edge.engine.to_target_logits(model.lm_head(steps[step][begin + step])[None])[0]
            assert torch.allclose(logits, wanted, atol=1e-4)


def test_a_training_that_was_stopped_ends_in_the_same_weights(target, prompts, tmp_path, monkeypatch):
    settings = small(target, prompts, tmp_path / "stopped", steps=8, tokens=400, evaluations=2)
    distil(settings, HELDOUT)
    whole = (settings.out / "model.safetensors").read_bytes()
    again = small(target, prompts, tmp_path / "again", steps=8, tokens=400, evaluations=2)
    evaluate = Trainer._evaluate

    def stop(trainer):
        evaluate(trainer)
        trainer._save()
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        distil(again, HELDOUT)
    monkeypatch.setattr(Trainer, "_evaluate", evaluate)
    distil(again, HELDOUT)
    assert (again.out / "model.safetensors").read_bytes() == whole


def test_a_profile_runs_the_pair_and_counts_the_bytes_of_hidden_states(finished, specbench, profile, prompts):
    settings, _ = finished
    path = profile(
        edge={"model": str(settings.out), "vocab_map": "vocab_map.json"},
        cloud={"model": settings.target, "device": "cpu"},
        workload={"prompts": str(prompts), "limit": 2, "max_new_tokens": 12},
        link={"rtt_ms": 1},
    )
    outcome = specbench("run", "speculative_eagle", "--profile", path, "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json["methods"]["speculative_eagle"]
    assert figures["exact_match"] == 1.0
    assert 0 < figures["costs"]["feature_bytes_per_token"] <= 2 * 32 * 4
    audited = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert audited.code == 0, audited.err
    parameters = {each["role"]: each["parameters"] for each in audited.json["profiles"][0]["audits"]}
    names = Student.load(settings.work / "student").model.state_dict()
    tied = "lm_head.weight"
    assert sum(group["tensors"] for group in parameters["edge"]) == len(names.keys() - {tied})


def test_a_draft_is_trained_on_from_another(target, prompts, tmp_path):
    first = small(target, prompts, tmp_path / "first", kind="plain", layers="2", steps=5, tokens=400)
    distil(first, HELDOUT)
    second = small(
        target, prompts, tmp_path / "second", kind="plain", start=str(first.out), draft_vocab=None, steps=1,
        tokens=400,
    )  # fmt: skip
    report = distil(second, HELDOUT)
    assert (report["start"], report["layers"], report["draft_vocab"]) == (str(first.out), [], 64)
    began, ids = Student.load(second.work / "student"), json.loads((first.out / "vocab_map.json").read_text())
    assert began.target_ids.tolist() == ids["target_ids"]
    assert f"that of `{first.out}`" in (second.out / "README.md").read_text()


def on_from(draft, settings, out, **other):
    return replace(settings, out=out, start=str(draft), draft_vocab=None, **other)


def test_a_draft_that_reads_hidden_states_is_trained_on_and_reads_the_same_ones(target, prompts, tmp_path):
    first = small(target, prompts, tmp_path / "first", layers="0,2", steps=5, tokens=400)
    distil(first, HELDOUT)
    second = on_from(first.out, first, tmp_path / "second", layers=None, steps=1)
    report = distil(second, HELDOUT)
    assert (report["kind"], report["start"], report["draft_vocab"]) == ("eagle", str(first.out), 64)
    began, made = Student.load(second.work / "student").model, EdgeModel(
        EdgeSpec(model=str(first.out), vocab_map="vocab_map.json", dtype="float32")
    ).engine.loaded.model  # fmt: skip
    assert began.config.feature_layers == [0, 2]
    for name, weight in made.named_parameters():
        assert torch.equal(weight, began.get_parameter(name)), name


def test_a_draft_to_train_on_must_be_of_the_kind_that_is_asked_for(finished, tmp_path):
    settings, _ = finished
    second = on_from(settings.out, settings, tmp_path / "second", kind="plain")
    with pytest.raises(SpecbenchError, match="is a draft of --kind eagle") as raised:
        distil(second, HELDOUT)
    assert raised.value.hint == "add --kind eagle"
    assert not second.work.exists()


def test_a_draft_to_train_on_must_read_hidden_states_that_the_target_has(finished, tmp_path):
    settings, _ = finished
    smaller = tiny_llama(tmp_path / "smaller", seed=2, num_hidden_layers=1)
    second = on_from(settings.out, settings, tmp_path / "second", target=str(smaller))
    with pytest.raises(SpecbenchError, match="up to layer 2 and the target has 1 layers"):
        distil(second, HELDOUT)


def test_a_fitted_drafts_layer_reads_nearly_what_it_reads_in_the_target(finished):
    settings, _ = finished
    corpus = Corpus(settings.work / "text")
    target = load_model(Path(settings.target), CloudSpec(model=settings.target)).model
    ids = Student.load(settings.work / "student").target_ids
    student = build_eagle(target, (1, 2), ids, unknown=4)
    tokens = torch.from_numpy(corpus.padded(np.arange(1)))
    states = features_of(target, tokens, (1, 2))  # 2 is what the last of three layers reads

    @torch.no_grad()
    def missed():
        embeddings = target.get_input_embeddings()(tokens[:, 2:])
        joined = student.model.joined(student.model.fuse(states[:, 1:-1].flatten(2)), embeddings)
        wanted = states[:, 2:, 1]
        return float((joined - wanted).norm() / wanted.norm())

    before = missed()
    fit(student, target, corpus, seed=0)
    assert missed() < 0.9 < before


@pytest.mark.parametrize("family", ["Mistral", "Qwen2", "Qwen3"])
def test_a_target_of_a_kindred_family_gets_a_draft_too(family):
    config = getattr(transformers, f"{family}Config")(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    target = getattr(transformers, f"{family}ForCausalLM")(config)
    student = build_eagle(target, (1, 3), np.arange(0, 96, 2), unknown=4)
    states = features_of(target, torch.tensor([[5, 6, 7, 8]]), (1, 3))[:, :-1]
    model, ids = student.model, torch.tensor([[3, 4, 5]])
    steps = list(unrolled(model, model.fuse(states.flatten(2)), ids, torch.arange(3), 2))
    whole = model(ids, hidden_states=model.fuse(states.flatten(2))).logits[0]
    assert torch.allclose(model.lm_head(steps[0]), whole, atol=1e-5)


def test_a_target_of_another_kind_is_refused():
    small = transformers.GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4)
    with pytest.raises(SpecbenchError, match="from GPT2LMHeadModel"):
        build_eagle(transformers.GPT2LMHeadModel(small), (1, 2), np.arange(40), unknown=4)


def test_a_target_whose_layers_are_not_a_llamas_is_refused():
    small = transformers.Phi3Config(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    with pytest.raises(SpecbenchError, match="from Phi3ForCausalLM"):
        build_eagle(transformers.Phi3ForCausalLM(small), (1, 2), np.arange(40), unknown=4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"layers": "2,1"},
            "--layers 2,1: a draft of --kind eagle reads up to 8 of the target's layers 0 to 3",
        ),
        ({"layers": "1,4"}, "layers 0 to 3"),
        ({"layers": "few"}, "layers 0 to 3"),
        ({"start": "draft"}, "has its layers and its vocabulary: --draft-vocab cannot be"),
    ],
)
def test_settings_that_cannot_be_are_refused(target, prompts, tmp_path, fields, message):
    with pytest.raises(SpecbenchError, match=message):
        distil(small(target, prompts, tmp_path / "draft", **fields), HELDOUT)


def test_the_target_reads_what_it_has_not_written_itself(finished):
    """Hidden states kept while the text was written are those of a reading, and one that is missing is made."""
    settings, _ = finished
    student = Student.load(settings.work / "student")
    layers = tuple(student.model.config.feature_layers)
    corpus = Corpus(settings.work / "text")
    target = load_model(Path(settings.target), CloudSpec(model=settings.target)).model.to(fast_dtype("cpu"))
    before, chosen = States(target, corpus, layers).of(np.arange(len(corpus))), np.arange(len(corpus))
    states_path(corpus.paths[0], layers).unlink()
    after = States(target, corpus, layers).of(chosen)
    assert (before - after).float().norm() < 0.02 * after.float().norm()
    read = features_of(target, torch.from_numpy(corpus.padded(chosen[:1])), layers).flatten(2)
    assert (after[0, : read.shape[1]] - read[0]).float().norm() < 0.02 * read.float().norm()


def test_a_disk_without_room_for_hidden_states_is_refused(finished, monkeypatch):
    settings, _ = finished
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    corpus = Corpus(settings.work / "text")
    target = load_model(Path(settings.target), CloudSpec(model=settings.target)).model
    with pytest.raises(SpecbenchError, match=r"hidden states of the text take .* has room for 0\.0"):
        States(target, corpus, (1, 2, 3))
