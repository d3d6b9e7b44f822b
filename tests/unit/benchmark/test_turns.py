"""A turn that one method cannot be asked is judged of none."""

from builders import generation
from comparisons import CONTROL, request, run

from specbench.benchmark.preparation import prepare
from specbench.benchmark.turns import Turns
from specbench.profile import load_profile
from specbench.registry import discover
from specbench.results.records import Prompt, Refusal
from specbench.stats.comparison import compare
from specbench.stats.groups import groups_of


def test_figures_leave_out_the_refused_turn_of_every_method():
    turns = [request(method, "1", 40.0, turn=turn, turns=2) for method in (CONTROL, "m") for turn in (0, 1)]
    others = [request(method, "2", 40.0) for method in (CONTROL, "m")]
    refused = (Refusal("1", 1, 0, "too long"),)
    found = run([*turns[:3], *others], refusals=refused)
    assert [[(r.prompt_id, r.turn) for r in group.records] for group in groups_of([found])] == [
        [("1", 0), ("2", 0)],
        [("1", 0), ("2", 0)],
    ]
    assert "turn 2 of prompt 1 is left out for every method: too long" in compare([found]).notes


def test_another_repeat_of_the_prompt_is_kept():
    records = [generation("1", turn=1, turns=2, repeat=repeat) for repeat in (0, 1)]
    assert [r.repeat for r in run(records, refusals=(Refusal("1", 1, 0, "long"),)).of("m")] == [1]


def test_a_refused_turn_is_asked_of_no_other_method(models, caplog):
    profile = load_profile("default", [f"cloud.model={models / 'target'}", f"edge.model={models / 'draft'}",
                                       "edge.vocab_map=null", "cloud.device=cpu"])  # fmt: skip
    caplog.set_level("INFO", "specbench")
    prompt = Prompt("1", "c", ("hello", "and now?", "so?"))
    prepared = prepare(profile, [discover().get("cloud_optimized_baseline")], [prompt])
    turns = Turns(prepared, ())
    assert turns.request(prompt, 0, 0, ()) is not None
    assert turns.request(prompt, 1, 0, ("a" * 3000,)) is None
    assert caplog.messages[-1].startswith("turn 2 of prompt 1 is skipped: prompt 1 has")
    assert turns.request(prompt, 1, 0, ("short",)) is None, "alike for a method whose reply would fit"
    assert turns.request(prompt, 1, 1, ("short",)) is not None, "another repeat has other replies"
    (refusal,) = turns.refusals
    assert (refusal.turn, refusal.repeat) == (1, 0)
    assert Turns(prepared, turns.refusals).request(prompt, 1, 0, ("short",)) is None, "when resumed, too"
