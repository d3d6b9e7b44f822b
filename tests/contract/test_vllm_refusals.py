"""What is no vLLM server, or fails like one, or is not the profile's, is one clear error."""

import json
from contextlib import closing

import pytest
from vllm_exchanges import KEY, PROMPT, STOPS, changing

from specbench.api import SpecbenchError
from specbench.errors import CloudLostError, ExitCode
from specbench.servers.answers import Completion, Question
from specbench.servers.client import Client
from specbench.servers.http import JsonHttp
from specbench.servers.probing import opened
from specbench.servers.vllm import Vllm


def test_precision_is_unknown_and_never_ok(server, profile, specbench):
    with server() as vllm:
        done = specbench("check-dtype", "--load", "--json", "--profile", profile(vllm.url))
        shown = specbench("check-dtype", "--load", "--profile", profile(vllm.url))
    assert (done.code, done.json["verdict"]) == (ExitCode.CHECK_FAILED, "unknown")
    assert "no tensor can be read (vllm 0.32.0 at http" in shown.out


def test_precision_that_is_only_declared_is_unknown_too_and_nobody_is_asked(profile, specbench):
    done = specbench("check-dtype", "--json", "--profile", profile("http://127.0.0.1:9"))
    assert (done.code, done.json["verdict"]) == (ExitCode.CHECK_FAILED, "unknown")
    verdicts = {row["method"]: row["verdict"] for row in done.json["profiles"][0]["methods"]}
    assert (verdicts["speculative"], verdicts["cloud_baseline"]) == ("unknown", "unknown")
    assert verdicts["edge_baseline"] == "ok"


def test_a_server_that_tells_another_dtype_is_refused(server, cloud):
    told = json.dumps({"vllm_config": {"model_config": {"dtype": "torch.bfloat16"}}}).encode()

    def dev_mode(path, question, status, kind, body):
        return (200, "application/json", told) if path.startswith("/server_info") else None

    with (
        server(change=dev_mode) as vllm,
        closing(cloud(vllm.url)) as there,
        pytest.raises(SpecbenchError, match=r"cloud\.dtype is float32 here and bfloat16 there"),
    ):
        there.load()


def test_a_server_with_another_tokenizer_is_refused(server, cloud):
    def other(document, question):
        document["tokens"][3] += 1

    with (
        server(change=changing("/tokenize", other)) as vllm,
        closing(cloud(vllm.url)) as there,
        pytest.raises(SpecbenchError, match="does not match the profile: the tokenizer") as caught,
    ):
        there.load()
    assert caught.value.exit_code == ExitCode.MODEL


def test_what_a_server_has_room_for_limits_the_context(server, cloud):
    def short(document, question):
        document["data"][0]["max_model_len"] = 64

    with server() as vllm, closing(cloud(vllm.url)) as there:
        assert there.context_length == 2048
    with server(change=changing("/v1/models", short)) as vllm, closing(cloud(vllm.url)) as there:
        assert there.context_length == 64


def test_a_key_that_is_missing_is_named(server, cloud):
    with (
        server() as vllm,
        closing(cloud(vllm.url, key=False)) as there,
        pytest.raises(SpecbenchError, match="wants a login: 401 Unauthorized") as caught,
    ):
        there.load()
    assert "cloud.token_file" in caught.value.hint


def test_another_model_is_refused_in_the_servers_own_words(server):
    with server() as vllm:
        there = Vllm(Client(vllm.url, KEY), "another")
        with pytest.raises(SpecbenchError, match="404 Not Found: The model `another` does not exist"):
            there.complete(Question(PROMPT, 1, stop_ids=frozenset()))
        with pytest.raises(SpecbenchError, match="has no model another"):
            there.look()


def test_a_prompt_without_room_is_refused_in_the_servers_own_words(server):
    with server() as vllm:
        there = opened(Client(vllm.url, KEY))
        with pytest.raises(SpecbenchError, match=r"400 Bad Request: .*2048"):
            there.stream(Question(PROMPT, 5000, stop_ids=frozenset()))


def without(name):
    def remove(document, question):
        for choice in document["choices"]:
            choice.pop(name, None)

    return changing("/v1/completions", remove)


def placing(place_of):
    """What is said of every place of the prompt but the first, by the id there."""

    def change(document, question):
        if question.get("prompt_logprobs"):
            places = [None, *(place_of(token) for token in question["prompt"][1:])]
            document["choices"][0]["prompt_logprobs"] = places

    return changing("/v1/completions", change)


def answering(status, kind, body, at="/v1/completions"):
    return lambda path, *recorded: (status, kind, body) if path == at else None


ANOTHER_FORM = "sends prompt_logprobs of another form than vLLM's"
STRANGE = {
    "a web page": (answering(200, "text/html", b"<html>", "/v1/models"), "something that is not a JSON object"),
    "a model without a name": (
        changing("/v1/models", lambda document, question: document["data"][0].pop("id") and None),
        "has 0 models",
    ),
    "a list": (answering(200, "application/json", b"[]", "/v1/models"), "not a JSON object: 2 bytes"),
    "nothing there": (answering(404, "text/plain", b"?", "/v1/models"), "refuses /v1/models: 404 Not Found"),
    "no prompt_logprobs": (without("prompt_logprobs"), "sends no prompt_logprobs"),
    "a place without a token": (placing(lambda token: None), ANOTHER_FORM),
    "a token without a number": (placing(lambda token: {str(token): {"rank": 1}}), ANOTHER_FORM),
    "a token that is none": (
        placing(lambda token: {str(token): {"logprob": -1.0}, "hello": {"logprob": -1.0}}),
        ANOTHER_FORM,
    ),
    "no token ids": (without("token_ids"), "sends no token ids"),
    "a cut prompt": (without("prompt_token_ids"), "did not read the prompt's token ids as they are"),
    "no choices": (
        changing("/v1/completions", lambda document, question: {"object": "list"}),
        "answers a completion with something else",
    ),
    "an engine that died": (
        answering(500, "application/json", b'{"error": {"message": "EngineCore died", "code": 500}}'),
        "answers 500 Internal Server Error: EngineCore died",
    ),
    "a proxy that fails": (answering(502, "text/html", b"<html>"), "answers 502 Bad Gateway"),
    "a hang-up": (answering(0, "", b""), ": Remote end closed connection"),
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGE)
def test_a_strange_server_is_refused_before_anything_is_timed_with_one_error(server, profile, specbench, what):
    change, message = STRANGE[what]
    with server(change=change) as vllm:
        done = specbench("run", "prompt_lookup", "--profile", profile(vllm.url))
    assert done.code == ExitCode.RUN
    assert message in done.err
    assert done.err.count("error:") == 1
    assert "Traceback" not in done.err
    assert "warming up" not in done.err


def test_nobody_there_is_one_error(profile, specbench):
    done = specbench("run", "cloud_baseline", "--profile", profile("http://127.0.0.1:9"))
    assert done.code == ExitCode.RUN
    assert "cannot connect to a server at http://127.0.0.1:9" in done.err
    assert "vllm serve MODEL" in done.err


def test_a_stream_that_breaks_off_ends_the_run_and_keeps_what_was_finished(server, profile, specbench):
    with server(cut_after=2) as vllm:
        done = specbench("run", "cloud_baseline", "--profile", profile(vllm.url))
    assert done.code == ExitCode.RUN
    assert ": its answer broke off" in done.err


def test_a_stream_that_falls_silent_is_given_up(server, cloud):
    with server(silent_s=2) as vllm:
        there = Vllm(Client(vllm.url, KEY, silence_s=0.3), "tiny")
        read = there.parts(Question(PROMPT, 24, stop_ids=STOPS), Completion())
        assert next(read).tokens
        with pytest.raises(CloudLostError, match=r"it said nothing for 0\.3 s"):
            next(read)


def test_a_connection_that_idled_too_long_is_opened_again(server):
    with server(hangs_up=True) as vllm:
        there = JsonHttp(vllm.url, KEY)
        assert [there.ask("/v1/models").status for _ in range(3)] == [200] * 3
        there.close()


def test_questions_and_whole_streams_share_one_connection(server):
    with server() as vllm:
        there = opened(Client(vllm.url, KEY))
        for _ in range(2):
            assert there.stream(Question(PROMPT, 24, stop_ids=STOPS)).tokens
        there.complete(Question(PROMPT, 1, stop_ids=STOPS))
        assert len(vllm.peers) == 1


def test_what_the_server_may_not_tell_is_left_unknown(server, cloud):
    def gateway(path, *recorded):
        return None if path.startswith("/v1/") else (404, "text/html", b"<html>")

    with server(change=gateway) as vllm, closing(cloud(vllm.url)) as there:
        assert (there.elsewhere["version"], there.elsewhere["dtype"]) == (None, None)


def test_methods_that_need_the_model_itself_are_refused(server, profile, specbench):
    with server() as vllm:
        for method in ("speculative_colocated", "hf_assisted"):
            done = specbench("run", method, "--profile", profile(vllm.url))
            assert done.code != 0
            assert "cloud.backend: openai only decodes and verifies" in done.err
            assert "cloud.backend=transformers" in done.err
