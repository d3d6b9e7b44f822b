"""Servers of other engines as the cloud: what each can do, exactly, and what it is refused for."""

from contextlib import closing

import pytest
from builders import PLAIN
from planted import Planted
from vllm_exchanges import alone

from specbench.api import CloudModel, Request, SpecbenchError
from specbench.cloud.openai_cloud import OpenAiCloud
from specbench.errors import ExitCode
from specbench.profile import CloudSpec, load_profile
from specbench.results.store import RunStore
from specbench.speculation.proposal import Proposal
from specbench.testing import STOP_ID

PROMPT, STOPS = tuple(range(5, 25)), frozenset({STOP_ID})


@pytest.fixture(scope="module")
def target(models):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))


@pytest.fixture(scope="module")
def own_text(target):
    return alone(target.target(PLAIN), Request(PROMPT, 24, STOPS))


def on(server, models):
    return closing(OpenAiCloud(CloudSpec(model=str(models / "target"), backend="openai", placement=server.url)))


def completions(server):
    return [question for path, question in server.asked if path == "/completion"]


def run(server, profile, specbench, *methods):
    ours = profile(cloud={"backend": "openai", "placement": server.url})
    return specbench("run", *methods, "--profile", ours)


def test_llama_cpp_verifies_with_one_request_behind_each_beginning_of_a_draft(target, models, own_text):
    with Planted(target) as server, on(server, models) as cloud:
        verifier = cloud.verifier(PLAIN)
        assert verifier.begin(Request(PROMPT, 24, STOPS)).tokens == own_text[:1]
        server.asked.clear()
        commit = verifier.verify(Proposal(own_text[1:4]))
        assert (commit.tokens, commit.accepted, commit.drafted) == (own_text[1:5], 3, 3)
        commit = verifier.verify(Proposal((own_text[5], own_text[6] ^ 2, own_text[7])))
        assert (commit.tokens, commit.accepted) == (own_text[5:7], 1)
        assert commit.prefilled > 0
        first, second = completions(server)
    assert first["prompt"] == [[*PROMPT, *own_text[:1], *own_text[1 : 1 + count]] for count in range(4)]
    assert [each["n_predict"] for each in (first, second)] == [1, 1]


def test_llama_cpp_reads_each_text_anew_and_goes_on_from_its_cache(target, models):
    with Planted(target) as server, on(server, models) as cloud:
        verifier = cloud.verifier(PLAIN)
        server.asked.clear()
        for _ in range(2):
            verifier.begin(Request(PROMPT, 24, STOPS))
            verifier.verify(Proposal((5, 6)))
    assert [question.get("cache_prompt", True) for question in completions(server)] == [False, True] * 2


def test_ids_that_a_stream_of_llama_cpp_leaves_out_are_found(target, models, own_text):
    with Planted(target, swallows=True) as server, on(server, models) as cloud:
        for budget in (5, 24):  # the fifth token has no event, nor one behind it
            request = Request(PROMPT, budget, STOPS)
            assert alone(cloud.target(PLAIN), request) == own_text[:budget]


def test_a_run_on_llama_cpp_has_the_controls_texts_and_says_what_verifying_costs(
    target, profile, specbench, tmp_path
):
    with Planted(target) as server:
        done = run(server, profile, specbench, "speculative", "cloud_baseline")
    assert done.code == 0, done.err
    assert "4 of 4 texts equal to the control's" in done.out
    assert "a token behind each beginning of the draft" in done.out
    stored = RunStore(tmp_path / "runs").read(RunStore(tmp_path / "runs").find(None))
    assert stored.manifest.engines["cloud"] == "llama.cpp"
    assert stored.manifest.models["cloud"]["version"] == "b1-tests"


def test_a_plain_server_is_the_cloud_alone_and_refuses_drafts_by_name(target, profile, specbench):
    with Planted(target, dialect="openai") as server:
        done = run(server, profile, specbench, "cloud_baseline")
        assert done.code == 0, done.err
        refused = run(server, profile, specbench, "speculative")
    assert "4 of 4 texts equal to the control's" in done.out
    assert refused.code != 0
    assert f"the openai server at {server.url} gives no log-probabilities of drafted tokens" in refused.err


def test_ids_of_a_plain_server_are_those_of_the_tokenizer(target, models, own_text):
    with Planted(target, dialect="openai") as server, on(server, models) as cloud:
        assert alone(cloud.target(PLAIN), Request(PROMPT, 24, STOPS)) == own_text


def test_another_first_token_than_the_prompts_is_refused(target, models):
    def doubled(path, question):
        if path == "/v1/completions":
            question["prompt"] = "<|user|>" + question["prompt"]

    with (
        Planted(target, dialect="openai", change=doubled, stop_ids=range(200)) as server,
        on(server, models) as cloud,
        pytest.raises(SpecbenchError, match="read 21 prompt tokens where the prompt has 20"),
    ):
        alone(cloud.target(PLAIN), Request(PROMPT, 24, frozenset()))


@pytest.mark.parametrize("dialect", ["llama.cpp", "openai"])
def test_a_text_that_a_server_ends_by_a_token_that_ends_nothing_here_is_its_fault(target, models, dialect):
    with (
        Planted(target, dialect=dialect, stop_ids=range(200)) as server,
        on(server, models) as cloud,
        pytest.raises(SpecbenchError, match=r"'stop' after 1 of 24 tokens.* without a stop token") as caught,
    ):
        alone(cloud.target(PLAIN), Request(PROMPT, 24, frozenset()))
    assert server.url in caught.value.message


@pytest.mark.parametrize("dialect", ["llama.cpp", "openai"])
def test_a_text_that_is_shorter_than_its_budget_is_the_servers_fault(target, models, dialect):
    def shortened(path, question):
        for name in ("max_tokens", "n_predict"):
            if question and name in question:
                question[name] = min(question[name], 5)

    with (
        Planted(target, dialect=dialect, change=shortened) as server,
        on(server, models) as cloud,
        pytest.raises(SpecbenchError, match=r"'length' after 5 of 24 tokens.* without a stop token") as caught,
    ):
        alone(cloud.target(PLAIN), Request(PROMPT, 24, STOPS))
    assert ("it counts 5" in caught.value.message) == (dialect == "openai")


def test_an_answer_without_a_token_is_the_servers_fault(target, models):
    def silent(path, question):
        if path == "/completion" and not isinstance(question["prompt"][0], list):
            return 200, "application/json", b'{"tokens": [], "content": "", "stop": true, "stop_type": "limit"}'
        return None

    with Planted(target, change=silent) as server, on(server, models) as cloud:
        verifier = cloud.verifier(PLAIN)
        with pytest.raises(SpecbenchError, match="answers a request for one token with none") as caught:
            verifier.begin(Request(PROMPT, 24, STOPS))
    assert server.url in caught.value.message


def test_a_server_that_ends_at_its_own_stop_tokens_cannot_ignore_them(target, profile, specbench):
    with Planted(target) as server:
        ours = profile(cloud={"backend": "openai", "placement": server.url}, decoding={"ignore_eos": True})
        done = specbench("run", "cloud_baseline", "--profile", ours)
    assert done.code == ExitCode.USAGE
    assert "ends a text at its own stop tokens" in done.err


def test_the_name_of_one_engine_is_refused_with_the_new_one():
    with pytest.raises(SpecbenchError, match="vllm is now openai") as caught:
        load_profile("default", ["cloud.backend=vllm", "cloud.placement=http://127.0.0.1:8000"])
    assert caught.value.exit_code == ExitCode.PROFILE
