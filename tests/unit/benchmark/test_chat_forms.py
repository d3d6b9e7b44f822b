"""How a conversation is put to the model: system message, template, its variables, beginning of the answer."""

import datetime
import json

import pytest

from specbench.benchmark.chat_form import ChatForm, read_template
from specbench.benchmark.conversation import prompt_ids
from specbench.benchmark.preparation import prepare
from specbench.benchmark.prompt_lines import as_line
from specbench.benchmark.workload import parse_prompts
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import Workload, load_profile
from specbench.registry import discover
from specbench.results.records import Prompt
from specbench.testing import CHAT_TEMPLATE, tiny_tokenizer

ASKED = Prompt("7", "c", ("hi",))
THINKING = (
    CHAT_TEMPLATE.removesuffix("{% endif %}") + "{% if not enable_thinking %}quick {% endif %}{% endif %}"
)
STERN = "{% if messages[0].role == 'system' %}{{ raise_exception('not here') }}{% endif %}" + CHAT_TEMPLATE
UNREAD = {"chat_template_kwargs": {"enable_thinking": False}}
RAW = Prompt("7", "c", ("hi",), raw=True, chat_template_kwargs={"tools": []})
TWICE = {"bos_token": "<|user|>", "template": "{{ bos_token }}" + CHAT_TEMPLATE}
DEAF = "{% for message in messages if message['role'] != 'system' %}{{ message['content'] }}{% endfor %}"


def text(workload=None, prompt=ASKED, template=None, replies=(), **fields):
    """What the tiny tokenizer's model would read."""
    tokenizer = tiny_tokenizer()
    tokenizer.name_or_path = "tiny"
    for name, value in fields.items():
        setattr(tokenizer, name, value)
    workload = Workload.model_validate(workload or {})
    form = ChatForm.of(workload, prompt, template)
    read = tokenizer.decode(prompt_ids(tokenizer, prompt.turns, replies, form))
    return read.replace("<unk>", "|")  # the one letter here that the tiny tokenizer does not know


def test_without_settings_a_prompt_is_what_the_template_itself_makes_of_it():
    tokenizer = tiny_tokenizer()
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"},
                {"role": "user", "content": "and now?"}]  # fmt: skip
    found = prompt_ids(tokenizer, ["hi", "and now?"], ["yo"])
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert found == whole["input_ids"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("system", "\ud800", "holds half of a character"),
        ("prefill", "\ud800", "holds half of a character"),
        ("chat_template_kwargs", {"tools": ["\ud800"]}, "holds half of a character"),
        ("chat_template_kwargs", {"today": datetime.date(2026, 11, 30)}, "no form in JSON"),
        ("chat_template_kwargs", {"share": float("nan")}, "no form in JSON"),
    ],
)
def test_what_no_record_could_hold_is_refused(key, value, message):
    with pytest.raises(SpecbenchError, match=rf"workload\.{key}: .*{message}"):
        load_profile("default", settings={f"workload.{key}": value})


def test_a_system_message_is_the_lines_own_or_else_the_profiles():
    assert text({"system": "be brief"}) == "<|system|>be brief<|end|><|user|>hi<|end|><|assistant|>"
    own = Prompt("7", "c", ("hi",), system="be long")
    assert text({"system": "be brief"}, own).startswith("<|system|>be long<|end|>")
    assert text({"system": "be brief"}, Prompt("7", "c", ("hi",), system="")).startswith("<|user|>")


def test_a_prefill_begins_every_answer_and_ends_the_prompt():
    two = Prompt("7", "c", ("hi", "why?"))
    assert text({"prefill": "Sure: "}, two, replies=["ok"]) == (
        "<|user|>hi<|end|><|assistant|>Sure: ok<|end|><|user|>why?<|end|><|assistant|>Sure: "
    )


def test_variables_reach_the_template_and_a_line_overrides_the_profile():
    workload = {"chat_template_kwargs": {"enable_thinking": True}}
    assert text(workload, template=THINKING).endswith("<|assistant|>")
    own = Prompt("7", "c", ("hi",), chat_template_kwargs={"enable_thinking": False})
    assert text(workload, own, THINKING).endswith("<|assistant|>quick ")


def test_tools_are_a_variable_of_the_template():
    (prompt,) = parse_prompts(json.dumps({"question_id": 7, "category": "c", "turns": ["hi"],
                                          "tools": [{"name": "clock"}]}).encode(), "p")  # fmt: skip
    assert "<clock>" in text(prompt=prompt, template="<{{ tools[0]['name'] }}>" + CHAT_TEMPLATE)


def test_raw_texts_are_joined_by_blank_lines_and_a_line_decides_for_itself():
    two = Prompt("7", "c", ("hi", "why?"))
    workload = {"chat_template": "raw", "system": "be brief", "prefill": "Q:"}
    assert text(workload, two, replies=["no"]) == "be brief\n\nhi\n\nQ:no\n\nwhy?\n\nQ:"
    assert text({"chat_template": "raw"}, Prompt("7", "c", ("hi",), raw=False)).startswith("<|user|>")
    assert text({}, Prompt("7", "c", ("hi",), raw=True)) == "hi"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workload": {"system": "s"}, "template": STERN}, "takes no system message (not here)"),
        ({"workload": {"system": "s!"}, "template": DEAF}, "leaves out the system message"),
        ({"workload": UNREAD}, "does not read the variable enable_thinking"),
        ({"prompt": RAW}, "tools is a variable of a chat template, and there is none here"),
        (TWICE, "begins the prompt with <|user|> twice"),
    ],
    ids=["refused", "ignored", "unread variable", "raw with tools", "two beginnings"],
)  # fmt: skip
def test_what_the_model_would_not_see_as_it_was_meant_is_refused(fields, message):
    with pytest.raises(SpecbenchError) as caught:
        text(**fields)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_template_that_fails_for_another_reason_is_not_blamed_on_the_system_message():
    with pytest.raises(SpecbenchError, match=r"cannot be applied: broken$"):
        text({"system": "s"}, template="{{ raise_exception('broken') }}")


def test_a_text_that_brings_the_beginning_that_the_tokenizer_adds_is_refused():
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<|user|>"
    number = tokenizer.bos_token_id
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single="<|user|> $A", special_tokens=[("<|user|>", number)])
    assert prompt_ids(tokenizer, ["hi"], [], ChatForm(is_raw=True))[:1] == [number]
    with pytest.raises(SpecbenchError, match=r"the text begins with <\|user\|>, and the tokenizer of .* adds"):
        prompt_ids(tokenizer, ["<|user|>hi"], [], ChatForm(is_raw=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"system": 3}, "p, line 1: system is not text"),
        ({"prefill": ["x"]}, "p, line 1: prefill is not text"),
        ({"raw": "yes"}, "p, line 1: raw is neither true nor false"),
        ({"tools": [1]}, "p, line 1: tools is not a list of objects"),
        ({"chat_template_kwargs": []}, None),
        ({"chat_template_kwargs": [1]}, "p, line 1: chat_template_kwargs is not an object"),
        ({"chat_template_kwargs": {"tokenize": 1}}, "line 1: chat_template_kwargs: tokenize is set by"),
        ({"chat_template_kwargs": {"a b": 1}}, "'a b' is not the name of a variable"),
        ({"system": "\ud800"}, "p, line 1: system holds half of a character"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(fields, message):
    line = json.dumps({"question_id": 1, "category": "c", "turns": ["a"], **fields}).encode()
    if message is None:
        assert parse_prompts(line, "p")
        return
    with pytest.raises(SpecbenchError) as caught:
        parse_prompts(line, "p")
    assert message in caught.value.message


def test_a_prompt_is_written_as_it_is_read():
    prompt = Prompt("7", "c", ("hi",), (("x",),), "s", "p", True, {"enable_thinking": False})
    assert parse_prompts(json.dumps(as_line(prompt)).encode(), "p") == [prompt]


def test_a_template_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SpecbenchError, match=r"nowhere\.jinja cannot be read"):
        read_template(Workload(chat_template="nowhere.jinja"))
    (tmp_path / "a.jinja").write_bytes(b"\xff")
    with pytest.raises(SpecbenchError, match="not UTF-8"):
        read_template(Workload(chat_template=str(tmp_path / "a.jinja")))


def test_variables_that_specbench_sets_are_refused_in_a_profile():
    with pytest.raises(SpecbenchError, match="add_generation_prompt is set by specbench") as caught:
        load_profile("default", ["workload.chat_template_kwargs={add_generation_prompt: false}"])
    assert caught.value.exit_code == ExitCode.PROFILE


def test_the_hash_of_what_is_asked_covers_the_form(models, tmp_path):
    (tmp_path / "own.jinja").write_text(THINKING)
    tiny = [f"cloud.model={models / 'target'}", f"edge.model={models / 'draft'}", "edge.vocab_map=null",
            "cloud.device=cpu"]  # fmt: skip
    control = [discover().get("cloud_optimized_baseline")]

    def asked(*overrides):
        return prepare(load_profile("default", [*tiny, *overrides]), control, [ASKED])

    ways = ["workload.system=s", "workload.prefill=p", "workload.chat_template=raw",
            f"workload.chat_template={tmp_path / 'own.jinja'}"]  # fmt: skip
    hashes = {asked(*way).prompts_sha256 for way in ([], *([way] for way in ways))}
    assert len(hashes) == 5
    with pytest.raises(SpecbenchError, match=r"prompt 7: the chat template of .* does not read the variable x"):
        asked("workload.chat_template_kwargs.x=1")
