"""Answers follow their grammar, are the control's, and what the grammar forces takes no draft step."""

import json
import re
from dataclasses import replace

import pytest
from builders import mapped_draft, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.api import RULES, AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.benchmark.answering import BrokenContractError, whether_complete
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, Decoding, EdgeSpec, GrammarSpec, Speculative
from specbench.registry import discover
from specbench.speculation.grammar import MOST_CHARACTERS, Grammar, obstacle_to
from specbench.testing import STOP_ID, answer, tiny_eagle, tiny_llama, tiny_tokenizer, tokens_of

METHODS = {name: method for name, method in discover().methods.items() if name != "edge_baseline"}
GREEDY = Options(Decoding(), Speculative())
PROMPT, STOPS = tuple(range(20, 50)), frozenset([STOP_ID])
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[a-z]{1,6}$"}, "size": {"enum": ["small", "large"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
SPECS = {
    "schema": GrammarSpec(json_schema=SCHEMA),
    "regex": GrammarSpec(regex=r"(yes|no), because [a-z ]{5,12}\."),
    "lark": GrammarSpec(lark='start: item ("; " item)*\nitem: /[a-c]{2,5}/ "=" /[0-9]+/'),
}


TOKENIZER = tiny_tokenizer()


def grammar(spec):
    return Grammar(*spec.definition, STOPS, TOKENIZER)


def asked(spec, budget=60, **fields):
    return Request(PROMPT, budget, STOPS, grammar=grammar(spec), **fields)


def text_of(tokens):
    return TOKENIZER.decode([token for token in tokens if token not in STOPS])


def follows(name, text):
    if name == "schema":
        found = json.loads(text)
        return re.fullmatch("[a-z]{1,6}", found["name"]) and found["size"] in ("small", "large")
    pattern = SPECS["regex"].regex if name == "regex" else "[a-c]{2,5}=[0-9]+(; [a-c]{2,5}=[0-9]+)*"
    return re.fullmatch(pattern, text) is not None


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """In float64, where no tie can hide a bug; the draft agrees often, not always."""
    folder = tmp_path_factory.mktemp("pair")
    target = tiny_llama(folder / "target", seed=7)
    near = shaken(folder / "near", target, by=0.1)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype="float64"))
    cloud.draft = edge = EdgeModel(EdgeSpec(model=str(near), dtype="float64"))
    words = mapped_draft(folder / "words", cloud, size=30, dtype="float64")
    eagle = EdgeModel(EdgeSpec(model=str(tiny_eagle(folder / "eagle", 3, target)), dtype="float64"))
    yield edge, cloud, words, eagle
    cloud.close()


def alone(cloud, request, options):
    return tokens_of(answer(AutoregressiveDecoder(cloud.target(options)), request))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_writes_the_controls_text_under_a_grammar(pair, name):
    edge, cloud, _, eagle = pair
    method, request = METHODS[name], asked(SPECS["schema"])
    rounds = answer(method.open(eagle if "eagle" in name else edge, cloud, GREEDY), request)
    text = alone(cloud, request, GREEDY)
    assert tokens_of(rounds) == text
    assert follows("schema", text_of(text))
    if name.startswith(("cloud", "hf")):
        return
    drafted = [part for part in rounds[1:] if part.drafted]
    assert all(part.forced_accepted <= part.forced <= part.drafted for part in drafted)
    assert all(part.forced_accepted <= part.accepted for part in drafted)


@pytest.mark.parametrize(("spec", "window"), [("schema", 1), ("regex", 2), ("lark", 1)])
@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_keeps_to_the_grammar_and_those_that_repeat_the_control_do(pair, window, rule, spec):
    edge, cloud, *_ = pair
    sampling = Decoding() if RULES[rule].needs_greedy else Decoding(temperature=0.9, min_p=0.02)
    options = Options(sampling, Speculative(verification=rule, draft_length=5, window=window))
    request = asked(SPECS[spec], 200, seed=4)
    text = tokens_of(answer(SpeculativeDecoding().open(edge, cloud, options), request))
    assert follows(spec, text_of(text)), text_of(text)
    assert whether_complete(request, text)
    if RULES[rule].repeats_control:
        assert text == alone(cloud, request, options)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("penalties", [{}, {"presence_penalty": 1.5, "logit_bias": {40: 5.0}}], ids=str)
def test_windows_and_penalties_keep_the_controls_text(pair, window, penalties):
    edge, cloud, *_ = pair
    options = Options(Decoding(**penalties), Speculative(window=window, draft_length=3))
    for request in (asked(SPECS["regex"]), asked(SPECS["lark"], 40)):
        rounds = answer(SpeculativeDecoding().open(edge, cloud, options), request)
        assert tokens_of(rounds) == alone(cloud, request, options)


def test_a_draft_that_lacks_the_words_of_the_grammar_loses_no_text(pair):
    _, cloud, words, _ = pair
    for rule in ("greedy", "coupled"):
        options = Options(Decoding(temperature=float(rule == "coupled")), Speculative(verification=rule))
        request = asked(SPECS["schema"], seed=3)
        rounds = answer(SpeculativeDecoding().open(words, cloud, options), request)
        assert tokens_of(rounds) == alone(cloud, request, options)


def test_forced_tokens_take_no_pass_of_the_draft_and_are_all_accepted(pair):
    edge, cloud, *_ = pair
    request, passes = asked(GrammarSpec(regex="abcdefghijklm")), []
    watch = edge.engine.loaded.model.register_forward_hook(lambda *_: passes.append(1))
    rounds = answer(SpeculativeDecoding().open(edge, cloud, GREEDY), request)
    watch.remove()
    assert text_of(tokens_of(rounds)) == "abcdefghijklm"
    assert len(passes) == 1  # the prompt's
    assert [(part.drafted, part.forced, part.forced_accepted) for part in rounds[1:]] == [(4, 4, 4)] * 2 + [
        (3, 3, 3)
    ]
    assert rounds[-1].finish_reason == "stop"


def test_what_the_draft_chose_is_not_counted_as_forced(pair):
    edge, cloud, *_ = pair
    request = asked(GrammarSpec(regex="[ab]{3}cde[ab]{3}"))
    rounds = answer(SpeculativeDecoding().open(edge, cloud, GREEDY), request)
    text = text_of(tokens_of(rounds))
    assert re.fullmatch("[ab]{3}cde[ab]{3}", text)
    assert sum(part.forced for part in rounds[1:]) < sum(part.drafted for part in rounds[1:])
    assert sum(part.forced_accepted for part in rounds[1:]) >= 3  # cde, where they were drafted


def test_a_budget_that_ends_in_the_middle_leaves_an_answer_that_is_not_complete(pair):
    _, cloud, *_ = pair
    short, long = asked(SPECS["schema"], 9), asked(SPECS["schema"])
    assert whether_complete(short, alone(cloud, short, GREEDY)) is False
    assert whether_complete(long, alone(cloud, long, GREEDY)) is True
    assert whether_complete(replace(long, grammar=None), (5,)) is None
    with pytest.raises(BrokenContractError, match="does not allow"):
        whether_complete(long, TOKENIZER.encode("[1]"))


TEXTS = (
    "", "yes", "no, be", "yes, because abc def.", "maybe", "yes, because  ", "no, because aaaaaaaaaaaa", "y",
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TEXTS), st.booleans()), max_size=12))
def test_any_prefix_may_be_asked_about_after_any_other(walk):
    """Tokens that were consumed are taken back without a trace."""
    once = grammar(SPECS["regex"]).constraint()
    for text, is_ended in walk:
        tokens = TOKENIZER.encode(text) + [STOP_ID] * is_ended
        anew = grammar(SPECS["regex"]).constraint()
        ours, theirs = once.allowed(tokens), anew.allowed(tokens)
        assert (ours is None) == (theirs is None)
        assert ours is None or (ours == theirs).all()
        assert once.forced(tokens) == anew.forced(tokens)
        assert once.is_complete(tokens) == anew.is_complete(tokens) == follows("regex", text)


@pytest.mark.parametrize("stops", [frozenset(), frozenset([500])])
def test_a_model_without_a_stop_token_cannot_end_an_answer(stops):
    with pytest.raises(SpecbenchError, match="ends with a stop token"):
        Grammar("regex", "[0-9]+", stops, TOKENIZER).constraint()


def test_a_grammar_that_no_message_can_hold_is_refused_before_it_is_sent():
    text = 'start: "a"\n//' + "x" * MOST_CHARACTERS
    assert f"{len(text)} characters" in obstacle_to("lark", text)
    with pytest.raises(SpecbenchError, match=f"at most {MOST_CHARACTERS} are read"):
        Grammar("lark", text, frozenset([STOP_ID]), TOKENIZER).constraint()
    assert obstacle_to("lark", text[:MOST_CHARACTERS]) is None


@pytest.mark.parametrize("rule", ["rank", "typical"])
def test_a_lossy_rule_takes_no_token_of_a_table_that_the_grammar_forbids(pair, rule):
    edge, cloud, *_ = pair
    options = Options(Decoding(temperature=1.0), Speculative(verification=rule))
    request = replace(asked(SPECS["regex"]), prompt_ids=tuple(TOKENIZER.encode("yes yes, b yes, c yes, ")))
    rounds = answer(METHODS["prompt_lookup"].open(edge, cloud, options), request)
    assert follows("regex", text_of(tokens_of(rounds)))


def test_drafts_for_several_outcomes_go_on_behind_forced_tokens(pair):
    edge, cloud, *_ = pair
    request = asked(GrammarSpec(regex="[ab]{2}cdefghijklmnop[ab]{9}qrstuvwxyz[ab]{5}"))
    text, found = alone(cloud, request, GREEDY), []
    for drafter, ahead in ((edge.outcome_drafter(GREEDY, 3), 2), (edge.drafter(GREEDY), 0)):
        drafter.begin(request)
        drafter.commit(text[:1], 0)
        at, proposals = 1, []
        while at < len(text):
            proposals.append(drafter.propose(4).tokens)
            for _ in range(ahead if len(proposals) % 3 == 0 else 0):  # else the verdict comes at once
                drafter.draft_ahead()
            pairs = zip(proposals[-1], text[at:], strict=False)
            accepted = next((count for count, (ours, theirs) in enumerate(pairs) if ours != theirs), 4)
            accepted = min(accepted, len(proposals[-1]), len(text) - at)
            drafter.commit(text[at : at + accepted + 1], accepted)
            drafter.check()
            at += accepted + 1
        found.append(proposals)
    assert found[0] == found[1]
