"""Whatever bytes come, the decoders raise nothing but ProtocolError, and a service answers and goes on."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specbench.clock import now_ms
from specbench.cloud.served import Served
from specbench.cloud.server.service import Service
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.fields import Frame, ProtocolError

NUMBERS = st.integers(-(2**63), 2**64 - 1)
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats() | st.binary(max_size=20) | st.text(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner))
NEARLY_FRAMES = st.builds(
    lambda tag, fields: protocol.encode([tag, *fields]), st.integers(0, 44), st.lists(VALUES, max_size=9)
)


@st.composite
def damaged(draw):
    """A frame of which some bytes are others, missing, or too many."""
    message = bytearray(
        protocol.encode(
            draw(
                st.sampled_from(
                    [
                        protocol.Hello(1, protocol.VERSION, "a" * 64),
                        protocol.Open(2, 1, {}, {"draft_length": 4}, True, None, True, 8, ((0, 2), 32, "int8")),
                        protocol.Begin(3, 1, (5, 6, 7), 12, (1,), 2**62, None, (True, (("image", b"GIF"),))),
                        protocol.Resume(
                            3, 1, (5, 6, 7), 12, (1,), 5, ("regex", "[0-9]+", "1.9.1"), None, (8, 9), 3, 4
                        ),
                        protocol.Verify(4, 1, (5, 6), (b"123456", b"abcdef")),
                        protocol.VerifyTree(4, 1, (5, 6, 7), (), 0, False, b"\0\1\1"),
                        protocol.Prove(
                            4,
                            1,
                            (5,),
                            9,
                            (),
                            3,
                            None,
                            None,
                            (6,),
                            ((None, (6,), False), (4, (7, 8), True)),
                            (7, 9),
                        ),
                        protocol.Recompute(4, 1, (5,), 9, (), 3, None, None, (6, 7)),
                        protocol.AskEnergy(4),
                        answers.Metered(4, 7, "ab", 9, 1, (), {"package-0": 1.5}, ("no GPU",)),
                        answers.Refused(3, "no", True),
                        answers.Committed(4, (5, 6), 1, 0, 100, 200, 12, 0, 0),
                        answers.CommittedMore(
                            4,
                            (5, 6),
                            1,
                            0,
                            100,
                            200,
                            12,
                            0,
                            0,
                            depth=2,
                            top_ids=b"\1\2\3\4",
                            hidden_states=b"\1\2",
                        ),
                    ]
                )
            )
        )
    )
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(message) - 1))
        message[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
        message = message or bytearray(b"\x00")
    return bytes(message)


MESSAGES = st.binary(max_size=60) | NEARLY_FRAMES | damaged()


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(MESSAGES)
def test_the_decoders_raise_nothing_but_protocol_errors(message):
    for decode in (protocol.decode_up, protocol.decode_down):
        with contextlib.suppress(ProtocolError):
            assert isinstance(decode(message), Frame)


@pytest.fixture(scope="module")
def served(cloud):
    return Served(cloud)


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_a_service_answers_anything_and_ends_at_most_that_connection(served, messages):
    service = Service(served)
    tokenizer = served.facts.tokenizer_sha256
    assert (
        len(list(service.handle(protocol.encode(protocol.Hello(1, protocol.VERSION, tokenizer)), now_ms())))
        == 1
    )
    for message in messages:
        for reply in service.handle(message, now_ms()):
            protocol.decode_down(reply)
        if service.is_over:
            return
