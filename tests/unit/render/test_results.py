"""The answer in a terminal: short, the verdict first and last, and nothing hidden that changes it."""

import io
from dataclasses import replace

import pytest
from comparisons import PROFILE, pair, run
from rich.console import Console

from specbench.render.results import comparison_table
from specbench.results.records import Divergence, Round
from specbench.stats.comparison import CONTROL, compare
from specbench.stats.headline import headline

LOSSLESS = {CONTROL: True, "hf_assisted_dynamic": True, "speculative_pipelined": True, "prompt_lookup": True}
FACTORS = {
    "hf_assisted_dynamic": 0.8,
    "speculative_pipelined": 1.05,
    "prompt_lookup": 1.5,
    "edge_baseline": 9.0,
}


def printed(comparison, width=80, **options):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(comparison_table(comparison, **options))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture(scope="module")
def records():
    made = {}
    for method, factor in FACTORS.items():
        jitter = 0.3 if method == "speculative_pipelined" else 0.02
        for record in pair(24, factor, jitter, method=method):
            drafted = record.method in LOSSLESS and record.method != CONTROL
            rounds = (
                (Round((0,)), Round(tuple(range(1, 9)), drafted=9, accepted=7)) if drafted else record.rounds
            )
            arrivals = (record.arrival_ms[0], record.arrival_ms[-1]) if drafted else record.arrival_ms
            changes = {"rounds": rounds, "arrival_ms": arrivals, "peak_rss_bytes": 10**9}
            made[record.method, record.prompt_id] = replace(record, **changes)
    return list(made.values())


@pytest.fixture(scope="module")
def comparison(records):
    return compare([run(records, lossless={**LOSSLESS, "edge_baseline": None})])


def test_five_methods_take_at_most_25_lines_of_80_columns(comparison):
    lines = printed(comparison)
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in (*LOSSLESS, "edge_baseline"))


def test_the_verdict_is_the_first_and_the_last_that_is_read(comparison):
    text = " ".join(" ".join(printed(comparison)).split())
    answer = headline(comparison)
    assert answer.startswith("prompt_lookup is faster than the cloud alone: 1.5")
    assert text.startswith(answer)
    assert text.endswith(answer)


def test_rows_stand_by_speed_up_and_another_text_stands_below_without_faster(comparison):
    lines = printed(comparison)
    rows = [line for line in lines[4:-3] if line.split(" ")[0] in {*LOSSLESS, "edge_baseline"}]
    names = [row.split()[0] for row in rows]
    assert names == [
        "prompt_lookup", "speculative_pipelined", CONTROL, "hf_assisted_dynamic", "edge_baseline",
    ]  # fmt: skip
    below = lines[lines.index("not the target's text:") :]
    assert below[1].startswith("edge_baseline")
    assert "faster" not in below[1]
    words = {row.split()[0]: row.split()[-1] for row in rows[:-1]}
    assert words == {
        "prompt_lookup": "faster", "speculative_pipelined": "inconclusive", CONTROL: "control",
        "hf_assisted_dynamic": "slower",
    }  # fmt: skip


def test_a_wider_terminal_shows_more_columns_and_details_show_all(comparison):
    narrow, wide = " ".join(printed(comparison)), " ".join(printed(comparison, 120))
    assert "memory" not in narrow
    assert "memory" in wide
    assert "acceptance, verification rule" not in wide
    details = " ".join(printed(comparison, 120, details=True))
    for part in ("texts and memory", "is slower than the cloud alone", "no verdict on edge_baseline"):
        assert part in details


def test_what_changes_the_conclusion_stays_visible_and_what_explains_waits_for_details(records):
    divergences = [Divergence("prompt_lookup", str(n), 0, 0, 3, (1, 2), verdict="tie") for n in range(3)]
    noisy = {
        **PROFILE,
        "precision": {"parity": "off"},
        "speculative": PROFILE["speculative"] | {"gate": {"measure": "margin"}},
    }
    made = compare(
        [run(records, lossless={**LOSSLESS, "edge_baseline": None}, divergences=divergences, profile=noisy)]
    )
    text = " ".join(" ".join(printed(made)).split())
    assert "3 texts differ from the control's by a near-tie of two tokens" in text
    assert "note: precision was not checked" in text
    assert "on prompt 0" not in text
    background = made.background[0]
    assert background in made.notes
    assert background[:40] not in text
    details = " ".join(" ".join(printed(made, details=True)).split())
    assert "on prompt 0" in details
    assert background[:40] in details


def test_one_wrong_text_is_shown_in_full_and_takes_the_verdict(records):
    bug = Divergence("prompt_lookup", "3", 0, 0, 3, (1, 2), verdict="bug")
    lossless = {**LOSSLESS, "edge_baseline": None}
    lines = printed(compare([run(records, lossless=lossless, divergences=(bug,))]))
    assert lines[0] == "No verdict: prompt_lookup produced wrong text."
    assert any(line.startswith("bug: prompt_lookup departs from the control on prompt 3") for line in lines)
    (row,) = [line for line in lines if line.startswith("prompt_lookup")]
    assert row.endswith("no verdict")


@pytest.mark.parametrize(
    ("questions", "factor", "jitter", "words"),
    [
        (24, 1.5, 0.05, "m is faster than the cloud alone: 1.5"),
        (24, 0.5, 0.05, "m is slower than the cloud alone: 0.5"),
        (24, 1.05, 0.3, "Inconclusive: m is at "),
        (24, 1.0, 0.005, "No difference: m equals the cloud alone within 3 %: 1.00x"),
        (4, 1.5, 0.0, "No verdict yet: it takes 12 prompts, and 4 were paired. So far m is at 1.50x"),
    ],
)
def test_the_headline_says_what_was_shown_and_no_more(questions, factor, jitter, words):
    assert headline(compare([run(pair(questions, factor, jitter))])).startswith(words)


def test_the_cloud_alone_in_another_loop_is_no_answer_beside_a_method():
    records = [*pair(24, 2.0, 0.01, method="cloud_baseline"), *pair(24, 0.5, 0.01)]
    unique = {(each.method, each.prompt_id): each for each in records}
    made = compare([run(unique.values())])
    assert headline(made).startswith("m is slower than the cloud alone: 0.50x")


def test_the_control_of_another_run_is_no_answer_beside_a_method():
    slower = [replace(each, arrival_ms=tuple(1.5 * ms for ms in each.arrival_ms)) for each in pair(4, 0.5)]
    both = compare([run(pair(4, 0.5), "r1"), run(slower, "r2")])
    assert headline(both).startswith("No verdict yet: it takes 12 prompts, and 4 were paired. So far m@r")
    assert "Each method against the control of its own run." in " ".join(" ".join(printed(both)).split())
    controls = [run([each for each in both_of if each.method == CONTROL], name)
                for name, both_of in (("r1", pair(4, 0.5)), ("r2", slower))]  # fmt: skip
    assert f"So far {CONTROL}@r2 is at 0.67x" in headline(compare(controls))


def test_one_run_has_one_control_and_the_caption_names_no_others(comparison):
    assert "of its own run" not in " ".join(" ".join(printed(comparison)).split())


def test_without_a_control_or_a_method_of_the_same_text_there_is_no_verdict():
    alone = [each for each in pair(12, 1.5) if each.method == "m"]
    assert headline(compare([run(alone)])).startswith("No verdict: the control was not measured")
    other = compare([run(pair(12, 1.5), lossless={CONTROL: True, "m": None})])
    assert headline(other).startswith("No verdict: no method that keeps the target's text")


def test_a_lossy_method_is_never_called_faster(records):
    made = compare([run(records, lossless={**LOSSLESS, "prompt_lookup": False, "edge_baseline": None})])
    lines = printed(made)
    below = lines[lines.index("not the target's text:") :]
    (row,) = [line for line in below if line.startswith("prompt_lookup")]
    assert row.endswith("lossy rule")
    assert not any("prompt_lookup" in line and "faster" in line for line in printed(made, details=True))
    assert headline(made).startswith("Inconclusive: speculative_pipelined is at ")
