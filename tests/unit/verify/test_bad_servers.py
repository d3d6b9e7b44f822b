"""What is no server, or a bad one, is one clear error; what was found before is kept."""

import json
import os
import signal
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from planted import QUESTIONS, pausing

from specbench.errors import ExitCode
from specbench.servers import client as asking

EVENTS = "text/event-stream"


@pytest.fixture(autouse=True)
def _pauses_are_short(monkeypatch):
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def verify(specbench, tmp_path):
    """Run the command on few and short answers."""
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"question_id": each.prompt_id, "category": "c", "turns": each.turns} for each in QUESTIONS]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def call(*arguments):
        return specbench("verify", "--prompts", prompts, "--max-new-tokens", 6, *arguments)

    return call


def always(status, kind, body):
    return lambda path, question: (status, kind, body)


def completions(status, kind, body):
    return lambda path, question: (status, kind, body) if path == "/completion" else None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (always(200, "text/html", b"<html>welcome</html>"), "not a JSON object: 20 bytes that begin b'<html>"),
        (always(200, "application/json", b"x" * 10_000_000), "10,000,000 bytes"),
        (always(401, "application/json", b'{"error": "who are you?"}'), "wants a login: 401 Unauthorized: who"),
        (always(302, "text/plain", b""), "redirects to"),
        (always(503, "text/plain", b"starting"), "503 Service Unavailable, 5 times in a row"),
        (
            completions(400, "application/json", b'{"error": {"message": "too long"}}'),
            "400 Bad Request: too long",
        ),
        (completions(200, EVENTS, b'data: {"tokens": [5], "content": "a", "st\n\n'), "not a JSON object"),
        (completions(200, EVENTS, b'data: {"tokens": [5], "content": "a", "stop": false}\n\n'), "broke off"),
        (completions(200, EVENTS, b'data: {"error": {"message": "no slot"}}\n\n'), "reports an error: no slot"),
        (completions(200, EVENTS, b'data: {"tokens": ["a"], "stop": true}\n\n'), "no token ids"),
    ],
)
def test_a_bad_server_is_one_clear_error(serve, verify, change, said):
    done = verify(serve(change=change, drafting=False).url)
    assert done.code == ExitCode.RUN
    # The server's threads share this stderr, and may have begun the line.
    (line,) = [line for line in done.err.splitlines() if "error: " in line]
    assert said in line
    assert "hint: " in done.err
    assert "Traceback" not in done.err


def test_a_server_that_is_down_or_silent_is_one_clear_error(serve, verify):
    assert "cannot connect to a server" in verify("http://127.0.0.1:9").err
    slow = serve(change=pausing(0.5), drafting=False)
    assert "it said nothing for 0.1 s" in verify(slow.url, "--timeout-s", 0.1).err


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://me:secret@host"])
def test_what_is_no_address_is_refused(verify, url):
    done = verify(url)
    assert done.code == ExitCode.USAGE
    assert "secret" not in done.err.partition("hint")[2]


def test_requests_refused_now_and_then_are_sent_again_and_counted(serve, verify):
    asked = []

    def change(path, question):
        asked.append(path)
        return (429, "text/plain", b"slow down") if len(asked) % 3 == 0 else None

    done = verify(serve(change=change, drafting=False).url, "--json")
    assert done.code == 0
    assert sum(done.json["retries"].values()) == len(asked) // 3


@pytest.mark.parametrize(
    ("asked_for", "least", "most"),
    [
        ("7", 7, 7),
        ("1000000000", 30, 30),
        ("9" * 400, 30, 30),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 30, 30),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
        *((text, 0.002, 0.002) for text in ("", "\u00b2", "\u0663", "-1", "soon", "1e9", "nan")),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 0, 30),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0, 30),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", 0, 30),
    ],
)
def test_a_server_may_ask_for_a_pause_of_half_a_minute_at_most(asked_for, least, most):
    assert least <= asking.pause_s(asked_for, 1) <= most


def test_the_pause_until_a_date_is_the_time_left():
    until = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    assert 18 < asking.pause_s(until, 0) <= 20


def test_what_was_found_before_a_server_was_lost_is_kept(serve, verify, specbench):
    asked = []

    def change(path, question):
        asked.append(bool(question) and "stream" in question)
        return (500, "text/plain", b"") if sum(asked) > 14 else None

    done = verify(serve().url, "--against", serve(change=change, drafting=False).url)
    assert done.code == ExitCode.RUN
    assert "then it was stopped" in done.out
    shown = specbench("verify", "--show", "latest", "--json").json
    assert shown["verdicts"]
    assert "5 times in a row" in shown["stopped"]


def test_ctrl_c_keeps_what_was_asked_already(serve, verify, specbench):
    asked = []

    def change(path, question):
        asked.append(bool(question) and "stream" in question)
        if sum(asked) == 15:
            os.kill(os.getpid(), signal.SIGINT)

    done = verify(serve().url, "--against", serve(change=change, drafting=False).url)
    assert done.code == ExitCode.INTERRUPTED
    assert "then it was stopped: interrupted" in done.out
    shown = specbench("verify", "--show", "latest", "--json").json
    assert 0 < len(shown["verdicts"]) < len(QUESTIONS)


def test_ctrl_c_before_the_first_verdict_keeps_how_steady_the_server_was(serve, verify, specbench):
    asked = []

    def change(path, question):
        asked.append(bool(question) and "stream" in question)
        if sum(asked) == 13:
            os.kill(os.getpid(), signal.SIGINT)

    done = verify(serve(change=change, drafting=False).url)
    assert done.code == ExitCode.INTERRUPTED
    assert "no verdict on" in done.out
    shown = specbench("verify", "--show", "latest", "--json").json
    assert (shown["verdicts"], shown["stopped"]) == ([], "interrupted")
    assert [each["differ"] for each in shown["steadiness"]] == [0]


def test_another_model_than_the_references_is_refused(serve, verify, tiny_pair):
    def other(path, question):
        return (200, "application/json", b'{"tokens": [1, 2, 3]}') if path == "/tokenize" else None

    done = verify(serve().url, "--against", serve(change=other, drafting=False).url)
    assert done.code == ExitCode.UNFAIR
    assert "use different tokenizers, so they run different models" in done.err


def test_a_server_that_only_chats_is_compared_by_text(serve, verify):
    honest = [serve(drafting=False, dialect="chat").url for _ in range(2)]
    done = verify(honest[0], "--against", honest[1], "--json")
    assert done.code == 0
    assert (done.json["server"]["kind"], done.json["compared"]) == ("openai-chat", "text")
    wrong = serve("off_by_one_after_refusal", dialect="chat").url
    done = verify(wrong, "--against", honest[1], "--max-new-tokens", 24)
    assert done.code == ExitCode.CHECK_FAILED
    assert "no verdict" in done.out


def test_the_key_is_sent_to_its_server_alone_and_never_shown_or_stored(serve, verify, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "very-secret")
    seen = []
    first, second = serve(), serve(drafting=False)
    for server in (first, second):
        answer = server.answer

        def noting(method, path, question, authorized, answer=answer, server=server):
            seen.append((server, authorized))
            return answer(method, path, question, authorized)

        server.answer = noting
    monkeypatch.setattr("vllm_exchanges.KEY", "very-secret")
    done = verify(first.url, "--against", second.url, "--api-key-env", "MY_KEY")
    assert done.code == 0
    assert {authorized for server, authorized in seen if server is first} == {True}
    assert {authorized for server, authorized in seen if server is second} == {False}
    stored = next((tmp_path / "runs" / "verify").iterdir()).read_text()
    assert "very-secret" not in done.out + done.err + stored
    assert verify(first.url, "--api-key-env", "NO_SUCH_KEY").code == ExitCode.USAGE


def test_the_command_shows_the_verdict_first_and_stores_it(serve, verify, specbench):
    done = verify(serve().url, "--against", serve(drafting=False).url, "--json")
    assert done.code == 0
    shown = specbench("verify", "--show", done.json["verify_id"])
    assert shown.out.splitlines()[0].startswith(done.json["server"]["url"])
    assert json.loads(specbench("verify", "--show", "latest", "--json").out) == done.json


def test_a_server_is_held_against_itself(serve, verify):
    assert "is deterministic" in verify(serve().url).out
    shaken = verify(serve(drafting=False, shake=2.0).url)
    assert shaken.code == ExitCode.CHECK_FAILED
    assert "which rounding does not explain" in shaken.out
    assert "4 of 4 prompts differ when asked 3 times" in shaken.out


def test_a_server_is_held_against_the_target_of_a_profile(serve, verify, profile, tiny_pair):
    ours = profile(cloud={"model": tiny_pair[0].spec.model, "device": "cpu"})
    done = verify(serve().url, "--against-profile", ours, "--json")
    assert done.code == 0
    assert done.json["against"]["kind"] == "profile"
    assert {each["verdict"] for each in done.json["verdicts"]} == {"same"}
    assert len(done.json["speeds"]) == 1, "what runs in this process is no server"
    wrong = verify(serve("off_by_one_after_refusal").url, "--against-profile", ours, "--max-new-tokens", 24)
    assert wrong.code == ExitCode.IDENTITY


def test_speed_under_load_is_measured_on_request(serve, verify):
    done = verify(serve().url, "--against", serve(drafting=False).url, "--concurrency", 3, "--json")
    assert done.code == 0
    assert [each["concurrency"] for each in done.json["loads"]] == [3, 3]
    assert [each["differ"] for each in done.json["loads"]] == [0, 0]
    assert all(each["tokens_per_s"] > 0 for each in done.json["loads"])


def test_texts_alone_prove_nothing_and_say_so(serve, verify):
    honest = [serve(drafting=False, dialect="openai").url for _ in range(2)]
    done = verify(honest[0], "--against", honest[1], "--json")
    assert done.json["compared"] == "tokens"
    assert done.code == 0
    done = verify(honest[0], "--against", honest[1], "--server", "transformers", "--json")
    assert done.json["compared"] == "text"
    assert any("texts are compared" in each for each in done.json["server"]["missing"])
    wrong = serve("off_by_one_after_refusal", dialect="openai").url
    done = verify(wrong, "--against", honest[1], "--server", "transformers", "--max-new-tokens", 24)
    assert done.code == ExitCode.CHECK_FAILED
    assert "no verdict" in done.out
