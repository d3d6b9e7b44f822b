"""The modelled link with real waiting: over an echo, and between a tiny edge and a tiny cloud."""

import queue

import pytest
from builders import PLAIN

from specbench.api import CloudModel, EdgeModel, Request
from specbench.clock import now_ms
from specbench.cloud.link.delayed_channel import LinkedChannel
from specbench.cloud.link.modelled import Link
from specbench.cloud.transport.channel import Channel, ChannelLostError
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, LinkSpec
from specbench.registry import discover
from specbench.testing import answer, tokens_of

HOURS_MS = 60_000.0
REQUEST = Request(tuple(range(10, 40)), 16, frozenset(), seed=5)


class Echo(Channel):
    """What is sent comes back; `hangs_up` is a message that ends it."""

    silence_s = 3.0

    def __init__(self):
        self.messages = queue.SimpleQueue()
        self.is_closed = False

    def send(self, message):
        self.messages.put(message)

    def receive(self, timeout_s=None):
        try:
            message = self.messages.get(timeout_s != 0, timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if message == b"hang up":
            raise ChannelLostError("gone")
        return message

    def close(self):
        self.is_closed = True


@pytest.fixture
def linked():
    opened = []

    def open_(**spec):
        opened.append(LinkedChannel(Echo(), Link(LinkSpec(**spec))))
        return opened[-1]

    yield open_
    for channel in opened:
        channel.close()


def test_messages_come_back_in_order_no_sooner_than_the_link_allows_and_say_what_they_took(linked):
    channel = linked(rtt_ms=20, jitter_ms=5, uplink_mbps=1, downlink_mbps=2, loss=0.05)
    channel.begin(3)
    started = now_ms()
    sent = [bytes([index]) * 125 for index in range(20)]
    up_ms = []
    for message in sent:
        channel.send(message)
        up_ms.append(channel.uplink_ms)
    got, down_ms = [], []
    for _ in sent:
        got.append(channel.receive())
        down_ms.append(channel.downlink_ms)
        assert now_ms() - started >= up_ms[len(down_ms) - 1] + down_ms[-1], "there, and back"
    assert got == sent
    assert min(up_ms) >= 5 + 1
    assert min(down_ms) >= 5 + 0.5
    assert now_ms() - started >= 20 * 1 + 5 + 5, "twenty messages of 1 kbit at 1 Mbit/s, and the way back"


def test_sending_never_waits_and_looking_never_does(linked):
    channel = linked(rtt_ms=HOURS_MS)
    for _ in range(3):
        channel.send(b"x")
    assert channel.uplink_ms == pytest.approx(HOURS_MS / 2)
    with pytest.raises(TimeoutError):
        channel.receive(0)


def test_a_message_on_its_way_is_not_there_yet_and_not_lost_by_looking(linked):
    channel = linked(rtt_ms=1000)
    channel.send(b"x")
    with pytest.raises(TimeoutError):
        channel.receive(0.6)
    assert channel.receive() == b"x"


def test_closing_hands_over_what_is_under_way_and_hangs_up():
    echo = Echo()
    channel = LinkedChannel(echo, Link(LinkSpec(rtt_ms=HOURS_MS)))
    channel.send(b"goodbye")
    channel.close()
    assert echo.is_closed
    assert not channel._uplink.is_alive()


def test_a_channel_that_is_lost_says_so_and_goes_on_saying_so(linked):
    channel = linked(rtt_ms=2)
    channel.send(b"hang up")
    for _ in range(2):
        with pytest.raises(ChannelLostError, match="gone"):
            channel.receive()
    with pytest.raises(ChannelLostError, match="gone"):
        channel.send(b"x")


def test_silence_is_counted_from_what_the_link_itself_may_take(linked):
    assert linked(rtt_ms=4000).silence_s == pytest.approx(3 + 4)


def factories(models, link=None):
    edge = EdgeModel(model=str(models / "draft"))
    return edge, CloudModel(CloudSpec(model=str(models / "target"), device="cpu"), link=link)


@pytest.mark.parametrize("name", ["speculative", "cloud_optimized_baseline", "cloud_baseline", "prompt_lookup"])
def test_a_link_changes_no_text_and_every_round_says_what_crossed_it(models, name):
    method = discover().get(name)
    plain = tokens_of(answer(method.open(*factories(models), PLAIN), REQUEST))
    edge, cloud = factories(models, LinkSpec(rtt_ms=8, uplink_mbps=10, downlink_mbps=10))
    try:
        rounds = answer(method.open(edge, cloud, PLAIN), REQUEST)
    finally:
        cloud.close()
    assert tokens_of(rounds) == plain
    assert all(part.downlink_ms >= 4 for part in rounds), "half of the round trip, and its bytes"
    assert rounds[0].uplink_ms >= 4
    assert all(part.bytes_down > 0 for part in rounds)
    assert rounds[0].bytes_up > 30, "at least a byte for each id of the prompt"
    if name == "speculative":
        assert all(part.uplink_ms >= 4 and part.wait_ms > 0 for part in rounds[1:])


def test_without_a_link_no_frame_is_made_in_one_process(models):
    _, cloud = factories(models, LinkSpec())
    assert not cloud.is_wired
    rounds = answer(discover().get("cloud_optimized_baseline").open(None, cloud, PLAIN), REQUEST)
    assert all(part.bytes_up is None and part.uplink_ms is None for part in rounds)


def test_assisted_generation_has_no_place_for_a_link(models):
    edge, cloud = factories(models, LinkSpec(rtt_ms=8))
    with pytest.raises(SpecbenchError, match="both models in one process, without a link"):
        discover().get("hf_assisted").open(edge, cloud, PLAIN)
