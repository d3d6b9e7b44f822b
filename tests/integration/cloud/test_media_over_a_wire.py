"""What edges may send of images to a server, and what it refuses."""

import pytest
from listening import Watched
from media import IMAGE_TOKEN, tiny_llava, write_picture

from specbench.cloud import CloudModel
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.fields import ProtocolError
from specbench.cloud.transport.socket import SocketChannel
from specbench.models import vocabulary
from specbench.profile import CloudSpec

pytest.importorskip("PIL")
PROMPT = (5, *[IMAGE_TOKEN] * 4, 6, 7)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return write_picture(tmp_path_factory.mktemp("shown") / "1.png", 1).read_bytes()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A target that reads images."""
    folder = tiny_llava(tmp_path_factory.mktemp("seeing"))
    return CloudModel(CloudSpec(model=str(folder), device="cpu"))


@pytest.fixture
def channel(start, seeing):
    """An edge that has opened a text."""
    channel = SocketChannel(start(Watched(seeing)).url)
    said(channel, protocol.Hello(1, protocol.VERSION, vocabulary.fingerprint(seeing.tokenizer)))
    assert isinstance(said(channel, protocol.Open(2, 1, {}, {}, True)), answers.Done)
    yield channel
    channel.close()


def said(channel, frame):
    channel.send(protocol.encode(frame))
    return protocol.decode_down(channel.receive(10))


def begin(number, prompt, *files):
    return protocol.Begin(number, 1, prompt, 4, (), 7, None, (False, tuple(("image", data) for data in files)))


def test_a_damaged_image_and_a_prompt_without_its_placeholder_are_refused_and_the_edge_goes_on(
    channel, picture
):
    wrong = [
        ((PROMPT, b"no image"), "a file is no image"),
        ((PROMPT, picture[:200]), "an image cannot be read"),
        (((5, 6, 7), picture), f"the prompt has no token {IMAGE_TOKEN}"),
        ((PROMPT[2:], picture), "the prompt has 3 tokens for image, and its files take 4"),
        ((PROMPT, picture, picture), "the prompt has 4 tokens for image, and its files take 8"),
    ]
    for number, (asked, reason) in enumerate(wrong, start=3):
        refused = said(channel, begin(number, *asked))
        assert isinstance(refused, answers.Refused)
        assert reason in refused.reason
        assert "the cloud failed" not in refused.reason
    assert isinstance(said(channel, begin(len(wrong) + 3, PROMPT, picture)), answers.Committed)


def test_a_server_that_compiles_says_how_to_start_it_for_images(channel, picture, monkeypatch):
    monkeypatch.setattr(CloudModel, "engine_kind", "compiled")
    assert "start the server with --set engine.kind=eager" in said(channel, begin(3, PROMPT, picture)).reason


def test_a_frame_with_more_files_than_a_prompt_shows_is_none():
    protocol.decode_up(protocol.encode(begin(3, PROMPT, *[b""] * 16)))
    with pytest.raises(ProtocolError):
        protocol.decode_up(protocol.encode(begin(3, PROMPT, *[b""] * 17)))
