"""`specbench distill`: a draft for a tiny target, kills, exports, and what is refused."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from specbench.distill import heldout
from specbench.distill.distillation import distil
from specbench.distill.settings import Settings
from specbench.errors import SpecbenchError
from specbench.results.records import Prompt
from specbench.testing import STOP_ID, VOCABULARY_SIZE, tiny_llama

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


@pytest.fixture
def settings(target, prompts, tmp_path):
    return small(target, prompts, tmp_path / "draft")


def small(target, prompts, out):
    return Settings(
        str(target), out, layers="2", draft_vocab=64, prompts=str(prompts), tokens=1200, steps=30,
        jobs_per_shard=8, answer_tokens=32, batch_tokens=512, heldout_tokens=16, evaluations=3,
        learning_rate=5e-3,
    )  # fmt: skip


def run(settings):
    return distil(settings, HELDOUT)


def weights_of(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def finished(target, prompts, tmp_path_factory):
    """One uninterrupted distillation, and what it reported."""
    settings = small(target, prompts, tmp_path_factory.mktemp("finished") / "draft")
    return settings, run(settings)


def test_the_loss_falls(finished):
    settings, report = finished
    state = torch.load(settings.work / "state.pt", weights_only=True)
    losses = [each["loss"] for each in state["progress"]["evaluations"]]
    assert len(losses) == 3
    assert losses[-1] < 0.8 * losses[0]
    assert report["training"]["steps"] == 30
    assert report["text"]["tokens"] >= 1200


def test_the_draft_is_a_plain_checkpoint_of_its_own(finished):
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    settings, report = finished
    assert {path.name for path in settings.out.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "vocab_map.json", "README.md", "work",
    }  # fmt: skip
    model, loading = AutoModelForCausalLM.from_pretrained(
        settings.out, dtype=torch.float32, output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert (type(model).__name__, model.config.num_hidden_layers, model.config.vocab_size) == (
        "LlamaForCausalLM", 2, 64,
    )  # fmt: skip
    assert sum(each.numel() for each in model.parameters()) == report["parameters"]
    with safe_open(settings.out / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    answers = heldout.read_answers(settings.work / "heldout.pt")
    assert model(answers[0]["prompt"][None] % 64).logits.shape[-1] == 64


def test_the_map_is_injective_and_in_range(finished):
    from transformers import AutoTokenizer

    settings, _ = finished
    kept = json.loads((settings.out / "vocab_map.json").read_text())
    ids = kept["target_ids"]
    assert len(set(ids)) == len(ids) == 64
    assert min(ids) >= 0
    assert max(ids) < VOCABULARY_SIZE
    assert STOP_ID in ids
    tokenizer = AutoTokenizer.from_pretrained(settings.target)
    assert ids[kept["unknown_id"]] == tokenizer.unk_token_id
    assert kept["target"] == settings.target
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=False)
    assert kept["tokenizer_sha256"] == hashlib.sha256(vocabulary.encode()).hexdigest()


def test_a_profile_runs_the_pair(finished, specbench, profile, prompts):
    settings, _ = finished
    path = profile(
        edge={"model": str(settings.out), "vocab_map": "vocab_map.json"},
        cloud={"model": settings.target, "device": "cpu"},
        workload={"prompts": str(prompts), "limit": 2, "max_new_tokens": 12},
    )
    outcome = specbench("run", "speculative", "--profile", path, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["methods"]["speculative"]["exact_match"] == 1.0


def test_the_card_says_what_was_done(finished):
    settings, report = finished
    card = (settings.out / "README.md").read_text()
    assert "layers 0, 2; 64 of the target's tokens" in card
    assert f"{report['text']['tokens']} tokens" in card
    assert f"--target {settings.target} --layers 2 --draft-vocab 64" in card
    assert "| all |" in card
    assert "| sums |" in card


KILLED = """
import json, os, signal, sys
from pathlib import Path
from specbench.distill import shards, training
from specbench.distill.distillation import distil
from specbench.distill.settings import Settings
from specbench.results.records import Prompt

values, heldout, stage = json.loads(sys.argv[1])
values["out"] = Path(values["out"])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if stage == "text":
    whole, made = shards.write_shard, []
    def write(*arguments):
        die() if len(made) == 2 else made.append(1)
        return whole(*arguments)
    shards.write_shard = write
else:
    step = training.Trainer._step
    def stop_at(trainer):
        die() if trainer.progress.step == 17 else None
        return step(trainer)
    training.Trainer._step = stop_at
distil(Settings(**values), [Prompt(a, b, tuple(c)) for a, b, c in heldout])
"""


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(finished, tmp_path, logged):
    """SIGKILL while text is made, SIGKILL between two checkpoints, and then to the end."""
    settings = replace(finished[0], out=tmp_path / "draft")
    values = {**vars(settings), "out": str(settings.out)}
    asked = [[each.prompt_id, each.category, each.turns] for each in HELDOUT]
    for stage in ("text", "training"):
        script = [sys.executable, "-c", KILLED, json.dumps([values, asked, stage])]
        done = subprocess.run(script, capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
    report = run(settings)
    assert any(line.startswith("training: starting at step 10,") for line in logged.messages)
    assert weights_of(settings.out) == weights_of(finished[0].out)
    assert report["heldout"] == finished[1]["heldout"]


def test_a_finished_run_is_exported_again_and_not_trained_again(finished):
    settings, report = finished
    before = weights_of(settings.out)
    assert run(settings) == report
    assert weights_of(settings.out) == before


@pytest.mark.slow
def test_ctrl_c_keeps_the_step_that_was_taken(target, prompts, tmp_path):
    out = tmp_path / "draft"
    arguments = [
        "distill", "--target", target, "--layers", "1", "--draft-vocab", 64, "--prompts", prompts, "--out", out,
        "--tokens", 600, "--steps", 15_000,
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", "from specbench.cli import main; main()", *map(str, arguments)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    shown = []
    for line in process.stderr:  # until the training has begun
        shown.append(line)
        if line.startswith("training: starting"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    shown += process.communicate(timeout=300)[1]
    assert process.returncode == 130, shown
    assert "the same command resumes it" in "".join(shown)
    assert torch.load(out / "work" / "state.pt", weights_only=True)["progress"]["step"] > 0


def test_minutes_are_shared_between_text_and_training(settings, logged):
    """Three seconds: half of them for text, then as many steps as fit into the other half."""
    report = run(replace(settings, tokens=None, steps=None, minutes=0.05))
    assert report["text"]["seconds"] >= 1.5
    assert report["training"]["steps"] > 20
    assert sum("steps of" in line for line in logged.messages) == 1


@pytest.mark.slow
def test_the_command_reports_in_json(specbench, target, prompts, tmp_path):
    outcome = specbench(
        "distill", "--target", target, "--layers", "0,2", "--draft-vocab", 64, "--prompts", prompts,
        "--out", tmp_path / "draft", "--tokens", 300, "--steps", 2, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.json["layers"] == [0, 2]
    assert set(outcome.json["heldout"]) == {
        "all", "chat", "mathematics", "question", "translation", "retrieval", "summary",
    }  # fmt: skip
    assert "training: step 2 of 2" in outcome.err


def test_other_settings_do_not_go_on_with_a_run(finished):
    with pytest.raises(SpecbenchError, match="other settings: seed was 0, and is 1"):
        run(replace(finished[0], seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "4"}, "--layers 4: the target has 3 layers"),
        ({"layers": "0,3"}, "the target's layers are 0 to 2"),
        ({"layers": "some"}, "neither a number nor a list"),
        ({"draft_vocab": 97}, "--draft-vocab 97: the target has 96 tokens"),
        ({"draft_vocab": 1}, "--draft-vocab 1 is too small"),
        ({"minutes": 0}, "--minutes 0 is too small"),
        ({"prompts": "nowhere.jsonl"}, r"prompts file nowhere\.jsonl cannot be read"),
        ({"context_tokens": 8}, "no prompt of .* fits a context of 8 tokens"),
    ],
)
def test_what_cannot_work_is_one_sentence(settings, changes, message):
    with pytest.raises(SpecbenchError, match=message):
        run(replace(settings, **changes))


def test_empty_prompts_are_refused(settings, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(SpecbenchError, match="is empty"):
        run(replace(settings, prompts=str(tmp_path / "empty.jsonl")))


def test_a_folder_that_cannot_be_written_is_refused(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecbenchError, match="cannot be written"):
        run(replace(settings, out=tmp_path / "file" / "draft"))


def test_a_target_whose_layers_are_not_llamas_is_refused(settings, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    from specbench.testing import tiny_tokenizer

    config = GPT2Config(vocab_size=96, n_embd=16, n_layer=3, n_head=2, bos_token_id=None, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save_pretrained(tmp_path / "gpt2")
    with pytest.raises(SpecbenchError, match="cannot be cut from GPT2LMHeadModel"):
        run(replace(settings, target=str(tmp_path / "gpt2")))
