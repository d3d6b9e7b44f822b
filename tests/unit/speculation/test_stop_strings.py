"""Texts that end an answer, by tokens that cut characters and strings in two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbench.api import Decoding, Request
from specbench.speculation.stop_strings import StopStrings
from specbench.testing import tiny_tokenizer

PIECES = [b"a", b"b", b"ab", b"\n", b"\n\nQ", b"\xc3", b"\xa9", b"END", b"D.", b"E", b"N"]


def decode(token_ids):
    """As a byte-level tokenizer does."""
    return b"".join(PIECES[token] for token in token_ids).decode(errors="replace")


def ids(*pieces):
    return [PIECES.index(piece) for piece in pieces]


def ended(strings, tokens, least=0):
    stops = StopStrings(strings, decode, least)
    kept, reason = Request((0, 0), 99, frozenset(), stop_strings=stops).cut((0, 0), tokens)
    return len(kept), reason, stops.text(kept)


@pytest.mark.parametrize(
    ("pieces", "strings", "expected"),
    [
        ((b"a", b"E", b"N", b"D.", b"b"), ("END",), (4, "stop", "a")),
        ((b"a", b"END", b"D.", b"b"), ("END",), (2, "stop", "a")),
        ((b"a", b"\n", b"\n\nQ", b"b"), ("\n\n",), (3, "stop", "a")),
        ((b"a", b"\n\nQ"), ("Q", "\n"), (2, "stop", "a")),
        ((b"a", b"\xc3", b"\xa9", b"b"), ("\u00e9",), (3, "stop", "a")),
        ((b"a", b"b"), ("ba",), (2, None, "ab")),
    ],
    ids=["over three tokens", "in one", "over the border", "the earlier of two", "half characters", "absent"],
)
def test_a_text_ends_with_the_token_that_completes_a_string_and_before_it(pieces, strings, expected):
    assert ended(strings, ids(*pieces)) == expected


def test_a_string_in_the_prompt_ends_nothing():
    stops = StopStrings(("ab",), decode)
    asked = Request(tuple(ids(b"ab", b"a")), 9, frozenset(), stop_strings=stops)
    assert asked.cut(asked.prompt_ids, ids(b"b", b"a")) == (tuple(ids(b"b", b"a")), None)


def test_a_string_that_is_complete_before_the_least_length_does_not_count():
    tokens = ids(b"ab", b"a", b"b", b"a", b"ab")
    assert ended(("ab",), tokens, least=1) == (3, "stop", "ab")
    assert ended(("ab",), tokens, least=3) == (5, "stop", "ababa")


def test_a_stop_token_before_the_string_ends_the_text_first():
    stops = StopStrings(("b",), decode)
    asked = Request((0,), 9, frozenset(ids(b"\n")), stop_strings=stops)
    assert asked.cut((0,), ids(b"a", b"\n", b"b")) == (tuple(ids(b"a", b"\n")), "stop")
    assert stops.text(ids(b"a", b"\n")) == "a\n"


@given(
    tokens=st.lists(st.integers(0, len(PIECES) - 1), max_size=80),
    strings=st.lists(st.text("abEND\n\u00e9", min_size=1, max_size=5), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 7), min_size=1),
    least=st.integers(0, 6),
)
def test_blocks_of_any_size_end_where_the_whole_text_does(tokens, strings, sizes, least):
    """The definition: the first token behind the least length that makes a string end in what it adds."""
    stops = StopStrings(tuple(strings), decode, least)
    asked = Request((0,), 100, frozenset(), stop_strings=stops)
    text, at, reason = [0], 0, None
    while at < len(tokens) and reason is None:
        size = sizes[at % len(sizes)]
        kept, reason = asked.cut(text, tokens[at : at + size])
        text += kept
        at += size
    expected = len(tokens)
    for count in range(least + 1, len(tokens) + 1):
        before = decode(tokens[: count - 1]).rstrip("\ufffd")
        whole = decode(tokens[:count])
        if any(string in whole[max(0, len(before) - len(string) + 1) :] for string in strings):
            expected = count
            break
    assert len(text) - 1 == expected


@pytest.mark.parametrize("stop", [".", " ."])
def test_a_tokenizer_that_takes_spaces_out_of_its_texts_hides_no_stop_string(stop):
    tokenizer = tiny_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    found = StopStrings.of(Decoding(stop=(stop,)), tokenizer)
    tokens = tokenizer.encode("hi . or", add_special_tokens=False)
    assert tokenizer.decode(tokens) == "hi. or"
    count = found.end((), tokens)
    assert found.text(tokens[:count]) == "hi .".removesuffix(stop)
