"""A real vLLM server as the cloud: a run, its texts against our own control, and what verifying costs.

    python tests/perf/vllm_by_hand.py http://127.0.0.1:8000 [--profile NAME] [--limit 4] [--max-new-tokens 48]

The server runs the profile's cloud model in its dtype (docs/how-to/vllm.md). Three parts: `specbench run
speculative cloud_baseline` on it; every first turn of that run against transformers, here, in one pass over
the text (top-1 ids by both, log-probabilities of what was said); and the time of a verification by the length
of the text, beside a streamed token's. Exit status 1 when an id departs by more than the scores of both do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from specbench.api import CloudModel, Options, Request, now_ms
from specbench.cloud import cloud_of
from specbench.profile import load_profile
from specbench.results.store import RunStore
from specbench.servers.answers import Question
from specbench.servers.client import Client
from specbench.servers.probing import opened
from specbench.speculation.proposal import Proposal

LENGTHS = (16, 64, 128, 256, 512, 1024, 1536, 2000)
DRAFTED, REPEATS = 4, 5


def run(arguments, settings, folder):
    """The run, its table on stdout; returns what was stored."""
    command = [sys.executable, "-m", "specbench", "run", "speculative", "cloud_baseline", *settings]
    command += ["--limit", str(arguments.limit), "--max-new-tokens", str(arguments.max_new_tokens)]
    environment = {**os.environ, "SPECBENCH_RUNS": str(folder)}
    status = subprocess.run(command, env=environment, check=False).returncode
    print(f"specbench run: exit status {status}")
    store = RunStore(folder)
    return store.read(store.find(None))


def agreement(stored, profile, there):
    """Ids and log-probabilities of vLLM's texts, by the server's verification and by transformers here."""
    import torch

    here = CloudModel(profile.cloud, backend="transformers", placement="in_process", token_file=None)
    server, options = opened(Client(profile.cloud.placement)), Options.of(profile)
    control = here.target(options)
    ids = tops = equal = texts = 0
    furthest, wrong = 0.0, []
    replies = {}
    for record in stored.generations:
        if record.turn or record.method == "cloud_baseline":
            continue  # a second turn's prompt depends on the first text; the baseline is the control's request
        prompt = replies.setdefault(record.prompt_id, prompt_of(stored, record, there))
        request = Request(tuple(prompt), len(record.tokens), there.stop_ids)
        commit = control.begin(request)
        own = list(commit.tokens)
        if commit.finish_reason is None:
            own += [token for part in control.decode() for token in part.tokens]
        texts += 1
        equal += tuple(own) == record.tokens
        question = Question(tuple(prompt), 1, salt="by hand", stop_ids=frozenset())
        found = server.judged(question, record.tokens)
        session = here.engine.session(len(prompt) + len(record.tokens))
        session.prefill(prompt[:-1])
        scores = torch.log_softmax(session.extend([prompt[-1], *record.tokens[:-1]]).double(), -1)
        for index, token in enumerate(record.tokens):
            ids += 1
            best = int(scores[index].argmax())
            tops += best == found.own[index]
            furthest = max(furthest, abs(float(scores[index, token]) - found.log_probabilities[index]))
            if best != token:
                margin = float(scores[index, best] - scores[index, token])
                wrong.append((record.method, record.prompt_id, index, margin))
    print(f"texts equal to our own control's: {equal} of {texts}")
    print(f"top-1 ids, vLLM's verification and transformers' pass: {tops} of {ids} agree")
    print(f"ids said by vLLM that are not transformers' top-1: {len(wrong)} of {ids} {wrong[:5]}")
    print(f"largest difference of a log-probability: {furthest:.2e}")
    return all(margin <= 2 * furthest for *_, margin in wrong)


def prompt_of(stored, record, there):
    from specbench.benchmark import conversation

    turns = stored.manifest.turns[record.prompt_id]
    return conversation.prompt_ids(there.tokenizer, turns[:1], ())


def prefills(profile, there):
    """Median milliseconds of a verification of four drafted tokens, and of a streamed token, by length."""
    options = Options.of(profile)
    room = there.context_length
    text = there.tokenizer.encode("The edge drafts and the cloud verifies, round after round. " * 300)
    print(f"medians of {REPEATS}, {DRAFTED} tokens drafted")
    print(f"{'tokens':>8} {'verification ms':>16} {'streamed token ms':>18}")
    for length in LENGTHS:
        if room is not None and length + 16 > room:
            continue
        request = Request(tuple(text[: length - DRAFTED]), 16, frozenset())
        verifier, stream = there.verifier(options), there.target(options)
        times = []
        for _ in range(REPEATS + 1):  # the first one warms up
            verifier.begin(request)
            started = now_ms()
            verifier.verify(Proposal(tuple(text[length : length + DRAFTED])))
            times.append(now_ms() - started)
        stream.begin(request)
        steps = [commit.verify_ms for commit in stream.decode()]
        print(
            f"{length + 1:>8} {statistics.median(times[1:]):>16.1f} {statistics.median(steps):>18.1f}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    overrides = ["cloud.backend=openai", f"cloud.placement={arguments.url}", *arguments.set]
    settings = ["--profile", arguments.profile, *[word for one in overrides for word in ("--set", one)]]
    profile = load_profile(arguments.profile, overrides)
    with tempfile.TemporaryDirectory() as folder, closing(cloud_of(profile)) as there:
        there.load()
        stored = run(arguments, settings, Path(folder))
        agrees = agreement(stored, profile, there)
        prefills(profile, there)
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
