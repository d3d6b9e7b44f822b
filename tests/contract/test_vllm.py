"""A vLLM server's contract, as the cloud alone and as a verifier: our client against recorded real answers."""

from contextlib import closing

import pytest
from builders import PLAIN, generation
from vllm_exchanges import PROMPT, STOPS, alone, changing, completions

from specbench.api import Request
from specbench.benchmark.identity import Prover, divergences
from specbench.results.store import RunStore
from specbench.speculation.proposal import Proposal


def test_a_stored_run_says_what_a_vllm_cloud_did_and_what_is_not_known(server, profile, specbench, tmp_path):
    with server() as vllm:
        done = specbench("run", "prompt_lookup", "cloud_baseline", "--profile", profile(vllm.url))
    assert done.code == 0, done.err
    stored = RunStore(tmp_path / "runs").read(RunStore(tmp_path / "runs").find(None))
    manifest = stored.manifest
    assert manifest.engines["cloud"] == "vllm"
    assert manifest.models["cloud"] == {
        "kind": "vllm", "name": "tiny", "root": manifest.models["cloud"]["root"], "max_model_len": 2048,
        "version": "0.32.0", "dtype": None,
    }  # fmt: skip
    assert manifest.divergences == ()
    verified = [part for each in stored.generations for part in each.rounds if part.drafted]
    assert verified
    assert all(part.prefilled and part.verify_ms is not None for part in verified)
    assert any(part.accepted for part in verified)
    assert "3 of 3 texts equal to the control's" in done.out
    assert "every verification reads the whole text again" in done.out
    assert "prefilled" in specbench("compare", "--details").out
    assert "its precision is declared, not audited" in done.out
    assert "cloud at http://" in done.out
    alone_rounds = [
        part for each in stored.generations if each.method == "cloud_baseline" for part in each.rounds
    ]
    assert all(part.prefilled is None for part in alone_rounds)
    assert sum(bool(part.bytes_up) for part in alone_rounds) == 3, "one request a text"
    assert sum(not part.streamed for part in alone_rounds) == 3
    every = [part for each in stored.generations for part in each.rounds]
    assert all(part.uplink_ms is part.downlink_ms is None for part in every), "no way alone is known"
    assert all((part.rtt_ms is None) == part.streamed for part in every)


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
    from specbench.render.tables import divergence_line
    from specbench.results.records import Divergence

    line = divergence_line(Divergence("m", "1", 0, 0, 2, (5, 7), margin=0.25))
    assert line.plain.startswith("unproven: m departs")
    assert "2.50e-01 apart" in line.plain
