"""The method of the docs, a file of one's own: replayed, planned, its load predicted, without a line for it."""

import subprocess
import sys
from dataclasses import replace

import pytest
from blocks import explained_method
from replays import trace

from specbench.forecast.acceptance_trace import write_trace

NAME = "from_the_prompt"


@pytest.fixture
def own(replayed, tmp_path):
    """Words that name the method; the traced prompts hold the texts, so that its drafts are always right."""
    (tmp_path / f"{NAME}.py").write_text(explained_method())
    known = trace()
    texts = tuple(replace(text, prompt_ids=(50, *text.tokens)) for text in known.texts)
    write_trace(replayed[0], replace(known, texts=texts))
    return "--plugin", tmp_path / f"{NAME}.py", "--method", NAME


def test_it_is_replayed(replayed, own, specbench):
    done = specbench(
        "replay", *replayed, *own, "--over", "draft_length=4", "--over", "link.rtt_ms=0,20", "--json"
    )
    assert done.code == 0, done.err
    rows = [row for row in done.json["rows"] if row["method"] == NAME]
    assert [row["acceptance_rate"] for row in rows] == [1, 1]
    # Eight rounds for 39 tokens, seven of which draft four; a draft by lookup takes no time of the cost table.
    assert [row["ms_per_token"] for row in rows] == [
        pytest.approx((7 * 24 + 23 + 8 * rtt_ms) / 39) for rtt_ms in (0, 20)
    ]


def test_it_is_planned_as_it_is_replayed(replayed, own, specbench):
    done = specbench("plan", "--trace", *replayed, *own, "--objective-ms", "40", "--json")
    assert done.code == 0, done.err
    (plan,) = done.json["methods"].values()
    over = ("--over", "draft_length=1..32", "--json")
    rows = specbench("replay", *replayed, *own, *over).json["rows"]
    times = [row["ms_per_token"] for row in rows if row["method"] == NAME]
    assert [each["ms_per_token"] for each in plan["forecasts"]] == pytest.approx(times)
    assert plan["best_draft_length"] == 1 + times.index(min(times))
    # At 4 tokens, a round of 24 ms for five tokens is as slow as the cloud alone when it waits for 76 ms more.
    assert plan["forecasts"][3]["break_even_rtt_ms"] == pytest.approx((39 * 20 - 7 * 24 - 23) / 8, abs=0.02)
    assert any(name.startswith(f"{NAME}, draft length") for name in done.json["clients"])


def test_its_edges_share_a_target(replayed, own, specbench):
    over = ("--over", "clients=1,8", "--over", "draft_length=4", "--over", "target.speed=0.2")
    done = specbench("replay", *replayed, *own, *over, "--json")
    assert done.code == 0, done.err
    few, many = [row["ms_per_token"] for row in done.json["rows"] if row["method"] == NAME]
    assert few == pytest.approx((5 * (7 * 24 + 23) + 8 * 10) / 39)
    assert few < many


def test_without_a_trace_there_is_no_prompt_that_it_could_read(own, specbench):
    done = specbench("plan", "--acceptance", "0.8", *own)
    assert done.code == 2
    assert f"the drafter of {NAME} reads" in done.err


@pytest.mark.slow
def test_replays_and_plans_need_no_torch(replayed):
    program = (
        "import sys; from specbench.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    for arguments in (["replay", *replayed], ["plan", "--acceptance", "0.8", "--objective-ms", "60"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
