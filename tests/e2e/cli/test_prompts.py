"""What is asked: whole files, chat templates with a will of their own, and turns that no longer fit."""

import json
import shutil

import pytest
from stores import stored

from specbench.benchmark.conversation import most_tokens, prompt_ids
from specbench.results.store import RunStore
from specbench.testing import tiny_tokenizer


def write_prompts(path, *turns):
    rows = [{"question_id": n, "category": "talk", "turns": list(each)} for n, each in enumerate(turns, 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def many(tmp_path):
    return write_prompts(tmp_path / "many.jsonl", *[[f"question {n}"] for n in range(15)])


CONTROL = ("run", "cloud_optimized_baseline", "--max-new-tokens", "2")


@pytest.mark.parametrize("how", [("--prompts", "{}"), ("--set", "workload.prompts={}")])
def test_a_named_prompts_file_is_asked_as_a_whole(specbench, profile, many, tmp_path, how):
    done = specbench(*CONTROL, "--profile", profile(), *(word.format(many) for word in how))
    assert done.code == 0, done.err
    assert len(stored(tmp_path).manifest.prompt_ids) == 15
    assert "are used (workload.limit)" not in done.err
    assert stored(tmp_path).manifest.remarks == ()


@pytest.mark.parametrize("how", [("--limit", "4"), ("--set", "workload.limit=4")])
def test_a_limit_that_cuts_is_said_and_stored(specbench, profile, many, tmp_path, how):
    done = specbench(*CONTROL, "--profile", profile(), "--prompts", many, *how)
    said = f"4 of 15 prompts in {many} are used (workload.limit)"
    assert said in done.err
    manifest = stored(tmp_path).manifest
    assert len(manifest.prompt_ids) == 4
    assert manifest.remarks == (said,)
    assert said in specbench("compare", "--json").json["notes"]


def test_a_profile_that_names_a_file_does_not_inherit_a_limit(specbench, profile, many, tmp_path):
    child = tmp_path / "child.yaml"
    child.write_text(f"extends: {profile()}\nworkload: {{prompts: {many}}}\n")
    shown = specbench("profiles", "show", child)
    assert "limit: null" in shown.out, shown.err
    child.write_text(f"extends: {profile()}\nworkload: {{prompts: {many}, limit: 7}}\n")
    assert "limit: 7" in specbench("profiles", "show", child).out
    assert "limit: 12" in specbench("profiles", "show", "default", "--set", "workload.prompts=builtin").out


@pytest.fixture
def templated(models, tmp_path):
    """The tiny target with another chat template, or several, or none."""

    def write(template):
        folder = tmp_path / "templated"
        shutil.copytree(models / "target", folder, dirs_exist_ok=True)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        if isinstance(template, str):
            (folder / "chat_template.jinja").write_text(template)
        elif template:
            path = folder / "tokenizer_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
        return {"model": str(folder), "device": "cpu"}

    return write


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('a system message is needed') }}", "a system message is needed"),
        ("{% for m in messages %}{{ m['content'] }", "unexpected '}'"),
        ("{{ messages[0]['name'].upper() }}", "has no attribute 'name'"),
        ([{"name": "a", "template": "x"}, {"name": "b", "template": "y"}], "no default specified"),
    ],
)
def test_a_chat_template_that_fails_is_an_error_of_the_model_with_its_reason(
    specbench, profile, templated, template, reason
):
    done = specbench(*CONTROL, "--profile", profile(cloud=templated(template)))
    assert done.code == 4
    assert "prompt 1: the chat template of" in done.err
    assert reason in done.err
    assert "fault of specbench" not in done.err


STRICT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and m['content'] == '' %}"
    "{{ raise_exception('assistant message is empty') }}{% endif %}{% endfor %}"
)


def test_a_template_that_refuses_empty_replies_is_asked_two_turns(specbench, profile, templated, tmp_path):
    template = STRICT + tiny_tokenizer().chat_template
    done = specbench("run", "speculative", "--profile", profile(cloud=templated(template)))
    assert done.code == 0, done.err
    assert {r.turn for r in stored(tmp_path).generations if r.prompt_id == "1"} == {0, 1}
    assert stored(tmp_path).manifest.refusals == ()


def test_a_reply_that_the_template_refuses_leaves_out_that_turn_alone(specbench, profile, templated, tmp_path):
    template = STRICT.replace("== ''", "!= 'x'") + tiny_tokenizer().chat_template
    done = specbench("run", "speculative", "--profile", profile(cloud=templated(template)))
    assert done.code == 0, done.err
    assert "turn 2 of prompt 1 is skipped: prompt 1: the chat template of" in done.err
    run = stored(tmp_path)
    assert {(record.prompt_id, record.turn) for record in run.generations} == {("1", 0), ("2", 0), ("3", 0)}
    (refusal,) = run.manifest.refusals
    assert (refusal.prompt_id, refusal.turn, refusal.repeat) == ("1", 1, 0)
    notes = specbench("compare", "--json").json["notes"]
    assert any(note.startswith("turn 2 of prompt 1 is left out for every method") for note in notes)


def test_a_stand_in_for_a_reply_bounds_what_the_conversation_takes():
    tokenizer = tiny_tokenizer()
    turns = ["hello", "and now?"]
    assert most_tokens(tokenizer, turns, 8) == len(prompt_ids(tokenizer, turns, ["a" * 8]))
    tokenizer.chat_template = None
    assert most_tokens(tokenizer, turns, 8) == len(prompt_ids(tokenizer, turns, ["a" * 8]))


def test_a_model_without_a_chat_template_is_said_and_stored(specbench, profile, templated, tmp_path):
    cloud = templated(None)
    done = specbench(*CONTROL, "--profile", profile(cloud=cloud))
    assert done.code == 0, done.err
    said = f"{cloud['model']} has no chat template: turns and replies are plain texts, joined by blank lines"
    assert said in done.err
    assert said in stored(tmp_path).manifest.remarks


def test_what_the_model_read_is_kept_where_that_is_asked_for(specbench, profile, many, tmp_path):
    settings = ("--set", "workload.system=be brief", "--set", "workload.prefill=Well", "--limit", "1")
    asked = (*CONTROL, "--profile", profile(), "--prompts", many, *settings)
    assert specbench(*asked).code == 0
    assert stored(tmp_path).generations[0].prompt_text is None
    done = specbench(*asked, "--keep-prompts")
    assert done.code == 0, done.err
    (record,) = stored(tmp_path).generations
    # The tiny tokenizer knows no "|".
    assert record.prompt_text == "<<unk>system<unk>>be brief<|end|><|user|>question 0<|end|><|assistant|>Well"
    assert specbench("compare", "latest", stored_ids(tmp_path)[0]).code == 0, "the same was asked"


def stored_ids(tmp_path):
    return RunStore(tmp_path / "runs").ids()


def test_stop_strings_end_stored_texts_and_penalties_are_told(specbench, profile, many, tmp_path):
    asked = ("run", "speculative", "--profile", profile(), "--prompts", many, "--limit", "2",
             "--max-new-tokens", "24", "--set", "decoding.ignore_eos=true")  # fmt: skip
    assert specbench(*asked).code == 0
    whole = stored(tmp_path).generations[0]
    string = whole.text[7:9]
    words = ("--set", f"decoding.stop={json.dumps([string])}", "--set", "decoding.frequency_penalty=0.0")
    done = specbench(*asked, *words)
    assert done.code == 0, done.err
    for record in stored(tmp_path).generations[:2]:
        if record.prompt_id == whole.prompt_id:
            assert (record.text, record.finish_reason) == (whole.text[: whole.text.index(string)], "stop")
            assert record.tokens == whole.tokens[: len(record.tokens)]
            assert len(record.tokens) < len(whole.tokens)
    assert stored(tmp_path).manifest.stop_ids == ()
    report = specbench("report", "--format", "json").json["report"]
    assert "ignore eos True" in json.dumps(report)
