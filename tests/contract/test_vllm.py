"""A vLLM server's contract: our client against what vLLM 0.32.0 really answered for a tiny model.

`SPECBENCH_VLLM_RECORD=http://host:port` records anew (docs/vllm.md); tests that change an answer are then
skipped.
"""

import json
import os
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from builders import PLAIN, generation
from conftest import prompts_file
from vllm_exchanges import KEY, Recorder, Replay

from specbench.api import CloudModel, Request, SpecbenchError
from specbench.bench.identity import Prover, divergences
from specbench.bench.store import RunStore
from specbench.config import CloudSpec
from specbench.decoding.proposal import Proposal
from specbench.errors import CloudLostError, ExitCode
from specbench.factories.vllm import VllmCloud
from specbench.testing import STOP_ID, tiny_llama
from specbench.wire.http import JsonHttp
from specbench.wire.vllm import VllmServer

RECORDED = Path(__file__).parent / "vllm-0.32.0.json"
UPSTREAM = os.environ.get("SPECBENCH_VLLM_RECORD")
PROMPT = tuple(range(5, 25))
STOPS = frozenset({STOP_ID})


@pytest.fixture(scope="session")
def upstream():
    """What records, where that is asked for."""
    if not UPSTREAM:
        yield None
        return
    with Recorder(UPSTREAM) as recorder:
        yield recorder
        recorder.save(RECORDED)


@pytest.fixture
def server(upstream):
    """A server that answers as vLLM did; keyword arguments make it worse."""

    @contextmanager
    def begin(**worse):
        if upstream is None:
            with Replay(RECORDED, **worse) as replay:
                yield replay
            return
        if worse:
            pytest.skip("recording")
        upstream.asked.clear()
        yield upstream

    return begin


@pytest.fixture(scope="session")
def target_folder(tmp_path_factory):
    """The recorded model: vLLM's CPU attention takes heads of 32 and more."""
    return tiny_llama(
        tmp_path_factory.mktemp("vllm") / "target", seed=2, hidden_size=128, initializer_range=0.1
    )


@pytest.fixture(scope="session")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "token"
    path.write_text(KEY + "\n")
    return path


@pytest.fixture
def cloud(target_folder, token_file):
    """The tiny target on a server, as a method receives it."""

    def reach(url, key=True, **fields):
        spec = CloudSpec(
            model=str(target_folder),
            backend="vllm",
            placement=url,
            token_file=str(token_file) if key else None,
            **fields,
        )
        return VllmCloud(spec, lambda line: None)

    return reach


@pytest.fixture
def profile(target_folder, token_file, tmp_path):
    def write(url, **cloud):
        values = {
            "edge": {"model": str(target_folder)},
            "cloud": {
                "model": str(target_folder), "backend": "vllm", "placement": url, "token_file": str(token_file),
                **cloud,
            },
            "workload": {"prompts": str(prompts_file(tmp_path)), "limit": 3, "max_new_tokens": 16},
        }  # fmt: skip
        path = tmp_path / "vllm.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="session")
def own_text(target_folder):
    """What our own control says behind `PROMPT`."""
    with closing(CloudModel(CloudSpec(model=str(target_folder), device="cpu"), lambda line: None)) as here:
        return alone(here.target(PLAIN), Request(PROMPT, 24, STOPS))


def alone(target, request):
    commit = target.begin(request)
    tokens = list(commit.tokens)
    if commit.finish_reason is None:
        tokens += [token for part in target.decode() for token in part.tokens]
    return tuple(tokens)


def completions(asked):
    return [question for path, question in asked if path == "/v1/completions"]


def changing(path, change):
    """A change of the answers at a path: `change` gets the document, and returns or alters it."""

    def altered(at, question, status, kind, body):
        if at != path or not kind.startswith("application/json"):
            return None
        document = json.loads(body)
        return status, kind, json.dumps(change(document, question) or document).encode()

    return altered


def test_a_stored_run_says_what_a_vllm_cloud_did_and_what_is_not_known(server, profile, specbench, tmp_path):
    with server() as vllm:
        done = specbench("run", "prompt_lookup", "cloud_baseline", "--profile", profile(vllm.url))
    assert done.code == 0, done.err
    stored = RunStore(tmp_path / "runs").read(RunStore(tmp_path / "runs").find(None))
    manifest = stored.manifest
    assert manifest.engines["cloud"] == "vllm"
    assert manifest.models["cloud"] == {
        "name": "tiny", "root": manifest.models["cloud"]["root"], "max_model_len": 2048, "version": "0.32.0",
        "dtype": None,
    }  # fmt: skip
    assert manifest.divergences == ()
    verified = [part for each in stored.generations for part in each.rounds if part.drafted]
    assert verified
    assert all(part.prefilled and part.verify_ms is not None for part in verified)
    assert any(part.accepted for part in verified)
    assert "4 of 4 texts as the control's" in done.out
    assert "every verification prefills its whole text" in done.out
    assert "prefilled" in done.out
    assert "its precision is declared and was not seen" in done.out
    assert "cloud at http://" in done.out
    alone_rounds = [
        part for each in stored.generations if each.method == "cloud_baseline" for part in each.rounds
    ]
    assert all(part.prefilled is None for part in alone_rounds)
    assert sum(bool(part.bytes_up) for part in alone_rounds) == 4, "one request a text"


def test_streamed_text_is_that_of_our_own_control(server, cloud, own_text):
    with server() as vllm, closing(cloud(vllm.url)) as there:
        assert alone(there.target(PLAIN), Request(PROMPT, 24, STOPS)) == own_text


def test_drafts_are_accepted_up_to_the_first_that_is_not_the_top_id(server, cloud, own_text):
    with server() as vllm, closing(cloud(vllm.url)) as there:
        target = there.verifier(PLAIN)
        assert target.begin(Request(PROMPT, 24, STOPS)).tokens == own_text[:1]
        commit = target.verify(Proposal(own_text[1:4]))
        assert (commit.tokens, commit.accepted, commit.prefilled) == (own_text[1:5], 3, len(PROMPT) + 4)
        commit = target.verify(Proposal((own_text[5], own_text[6] ^ 2, own_text[7])))
        assert (commit.tokens, commit.accepted, commit.prefilled) == (own_text[5:7], 1, len(PROMPT) + 8)
        commit = target.verify(Proposal((own_text[7] ^ 2,)))
        assert (commit.tokens, commit.accepted) == (own_text[7:8], 0)
        commit = target.verify()
        assert (commit.tokens, commit.prefilled) == (own_text[8:9], None)
        asked = completions(vllm.asked)
    assert [question["max_tokens"] for question in asked] == [1] * 6
    assert [question.get("prompt_logprobs") for question in asked] == [1, None, 1, 1, 1, None]


def test_ranks_are_not_looked_at(server, cloud, own_text):
    def worse(document, question):
        for place in document["choices"][0]["prompt_logprobs"] or []:
            for entry in (place or {}).values():
                entry["rank"] = 7  # as ties of low precision would have it

    with server(change=changing("/v1/completions", worse)) as vllm, closing(cloud(vllm.url)) as there:
        target = there.verifier(PLAIN)
        target.begin(Request(PROMPT, 24, STOPS))
        assert target.verify(Proposal(own_text[1:4])).accepted == 3


def test_a_text_ends_at_the_stop_ids_of_the_request_alone(server, cloud, own_text):
    stop = own_text[6]
    text = own_text[: own_text.index(stop) + 1]
    with server() as vllm, closing(cloud(vllm.url)) as there:
        request = Request(PROMPT, 24, frozenset({stop}))
        assert alone(there.target(PLAIN), request) == text
        verifier = there.verifier(PLAIN)
        verifier.begin(request)
        commit = verifier.verify(Proposal(own_text[1:8]))
        assert (commit.tokens, commit.finish_reason) == (text[1:], "stop")


def test_every_text_has_a_salt_of_its_own_so_that_no_method_is_given_anothers_prefix(server, cloud):
    with server() as vllm, closing(cloud(vllm.url)) as there:
        target = there.target(PLAIN)
        vllm.asked.clear()
        for _ in range(2):
            alone(target, Request(PROMPT, 24, STOPS))
        salts = {question["cache_salt"] for question in completions(vllm.asked)}
    assert len(salts) == 2


def test_a_pending_verification_is_asked_for_at_once_and_committed_when_read(server, cloud, own_text):
    with server() as vllm, closing(cloud(vllm.url)) as there:
        target = there.verifier(PLAIN)
        target.begin(Request(PROMPT, 24, STOPS))
        pending = target.submit(Proposal(own_text[1:4]))
        with pytest.raises(RuntimeError, match="under way"):
            target.verify()
        assert pending.result().tokens == own_text[1:5]


def test_a_departure_from_the_control_is_neither_a_tie_nor_a_bug(server, cloud, own_text):
    text, request = own_text[:3], Request(PROMPT, 24, STOPS)
    other = (*text[:2], text[2] ^ 2)
    with server() as vllm, closing(cloud(vllm.url)) as there:
        prover = Prover(there, PLAIN, lambda record: request)
        (found,) = divergences(
            [generation(tokens=text, method="control"), generation(tokens=other)], "control", ["m"], prover
        )
    assert (found.position, found.verdict, found.noise) == (2, None, None)
    assert found.margin > 0


def test_an_unproven_departure_is_shown_with_the_servers_own_margin():
    from specbench.records import Divergence
    from specbench.render.tables import divergence_line

    line = divergence_line(Divergence("m", "1", 0, 0, 2, (5, 7), margin=0.25))
    assert line.plain.startswith("unproven: m departs")
    assert "2.50e-01 apart" in line.plain


def test_precision_is_unknown_and_never_ok(server, profile, specbench):
    with server() as vllm:
        done = specbench("check-dtype", "--load", "--json", "--profile", profile(vllm.url))
        shown = specbench("check-dtype", "--load", "--profile", profile(vllm.url))
    assert (done.code, done.json["verdict"]) == (ExitCode.CHECK_FAILED, "unknown")
    assert "no tensor can be looked at (vLLM 0.32.0 at http" in shown.out


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
        pytest.raises(SpecbenchError, match="refuses the edge: 401 Unauthorized") as caught,
    ):
        there.load()
    assert "cloud.token_file" in caught.value.hint


def test_another_model_is_refused_in_the_servers_own_words(server):
    with server() as vllm:
        there = VllmServer(vllm.url, KEY)
        there.model = "another"
        with pytest.raises(SpecbenchError, match="refuses: 404 Not Found: The model `another` does not exist"):
            there.complete(PROMPT, "salt")
        there.close()


def test_a_prompt_without_room_is_refused_in_the_servers_own_words(server):
    with server() as vllm:
        there = VllmServer(vllm.url, KEY)
        there.look()
        with pytest.raises(SpecbenchError, match=r"refuses: 400 Bad Request: .*2048"):
            list(there.stream(PROMPT, 5000, "salt", []))
        there.close()


def without(name):
    def remove(document, question):
        for choice in document["choices"]:
            choice.pop(name, None)

    return changing("/v1/completions", remove)


def answering(status, kind, body, at="/v1/completions"):
    return lambda path, *recorded: (status, kind, body) if path == at else None


STRANGE = {
    "a web page": (answering(200, "text/html", b"<html>", "/v1/models"), "its answer is no JSON"),
    "another API": (
        changing("/v1/models", lambda document, question: {"data": [{"id": "m", "owned_by": "openai"}]}),
        "is no vLLM server: /v1/models names no model that is owned_by vllm",
    ),
    "a list": (answering(200, "application/json", b"[]", "/v1/models"), "is no vLLM server"),
    "nothing there": (answering(404, "text/plain", b"?", "/v1/models"), "is no vLLM server: 404 Not Found"),
    "no prompt_logprobs": (without("prompt_logprobs"), "sends no prompt_logprobs"),
    "no token ids": (without("token_ids"), "sends no token ids"),
    "a cut prompt": (without("prompt_token_ids"), "did not read the prompt's token ids as they are"),
    "no choices": (
        changing("/v1/completions", lambda document, question: {"object": "list"}),
        "answers a completion with something else",
    ),
    "an engine that died": (
        answering(500, "application/json", b'{"error": {"message": "EngineCore died", "code": 500}}'),
        "refuses: 500 Internal Server Error: EngineCore died",
    ),
    "a proxy that fails": (answering(502, "text/html", b"<html>"), "refuses: 502 Bad Gateway"),
    "a hang-up": (answering(0, "", b""), "is lost: Remote end closed connection"),
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
    assert "there is no vLLM server at http://127.0.0.1:9" in done.err
    assert "vllm serve MODEL" in done.err


def test_a_stream_that_breaks_off_ends_the_run_and_keeps_what_was_finished(server, profile, specbench):
    with server(cut_after=2) as vllm:
        done = specbench("run", "cloud_baseline", "--profile", profile(vllm.url))
    assert done.code == ExitCode.RUN
    assert "is lost: its answer broke off" in done.err


def test_a_stream_that_falls_silent_is_given_up(server, cloud):
    with server(silent_s=2) as vllm:
        there = VllmServer(vllm.url, KEY, silence_s=0.3)
        there.model = "tiny"
        read = there.stream(PROMPT, 24, "salt", STOPS)
        assert next(read).tokens
        with pytest.raises(CloudLostError, match=r"it said nothing for 0\.3 s"):
            next(read)


def test_a_connection_that_idled_too_long_is_opened_again(server):
    with server(hangs_up=True) as vllm:
        there = JsonHttp(vllm.url, KEY)
        assert [there.ask("/v1/models").status for _ in range(3)] == [200] * 3
        there.close()


def test_what_the_server_may_not_tell_is_left_unknown(server, cloud):
    def gateway(path, *recorded):
        return None if path.startswith("/v1/") else (404, "text/html", b"<html>")

    with server(change=gateway) as vllm, closing(cloud(vllm.url)) as there:
        assert (there.facts.version, there.facts.dtype) == (None, None)


def test_methods_that_need_the_model_itself_are_refused(server, profile, specbench):
    with server() as vllm:
        for method in ("speculative_colocated", "hf_assisted"):
            done = specbench("run", method, "--profile", profile(vllm.url))
            assert done.code != 0
            assert "a vLLM server only decodes and verifies" in done.err
            assert "cloud.backend=transformers" in done.err
