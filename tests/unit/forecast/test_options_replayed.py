"""A method's own options, varied in replays and plans."""

from dataclasses import replace

import pytest
from replays import costs, drawn, prices, trace
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.suffix import SuffixDecoding

from specbench.api import Decoding, Options, Speculative
from specbench.forecast.acceptance_trace import write_trace
from specbench.forecast.grid import grid
from specbench.forecast.replay import play
from specbench.forecast.varied import Varied

# The prompt's tokens come once more, with a turn that was not there before.
PROMPT = (3, 4, 5, 6, 7, 8, 3, 4, 9, 6, 7)
TEXT = replace(
    drawn(0.5, 16), prompt_ids=PROMPT, prompt_tokens=len(PROMPT),
    tokens=(8, 3, 4, 5, 6, 7, 8, 3, 4, 9, 6, 7, *PROMPT[:4]),
)  # fmt: skip
FACTORS = {"methods.suffix.max_draft_factor": [1, 8]}


def rows_of(name, rows):
    return [row for row in rows if row.method == name]


def test_each_value_is_replayed_as_the_method_runs_with_it():
    for row, factor in zip(
        rows_of("suffix", grid([TEXT], costs(), ["suffix"], [8], FACTORS)), (1, 8), strict=True
    ):
        options = Options(Decoding(), Speculative(draft_length=8), {"suffix": {"max_draft_factor": factor}})
        # The real drafter, asked behind every token.
        real = [one.part for one in play(TEXT, prices(), Fixed(options), 8)][1:]
        assert row.acceptance_rate == sum(part.accepted for part in real) / sum(part.drafted for part in real)
    assert row.condition == {"methods.suffix.max_draft_factor": 8}


class Fixed(SuffixDecoding):
    """Has its options from elsewhere."""

    def __init__(self, options):
        self._options = options

    def drafter(self, edge, options):
        return super().drafter(edge, self._options)


def test_a_value_changes_what_its_method_drafts_and_no_other_method():
    methods = ["suffix", "speculative"]
    rows = list(grid([TEXT], costs(), methods, [8], FACTORS))
    short, long = rows_of("suffix", rows)
    assert short.acceptance_rate != long.acceptance_rate
    others = [replace(row, condition={}) for row in rows_of("speculative", rows)]
    assert others[0] == others[1]


def test_equal_variations_are_one_so_that_their_rounds_are_kept():
    method = SuffixDecoding()
    assert len({Varied(method, 1, {"min_match": 2}), Varied(method, 1, {"min_match": 2})}) == 1
    assert Varied(method, 1, {"min_match": 2}) != Varied(method, 1, {"min_match": 3})
    assert Varied(SpeculativeDecoding(), 4, {}).is_windowed
    assert Varied(method, 1, {"min_match": 2}) != Varied(SuffixDecoding(), 1, {"min_match": 2})


def test_the_oracle_knows_the_drafts_of_the_options_that_are_replayed():
    over = {"methods.suffix.max_draft_factor": [1, 64], "link.rtt_ms": [0.0, 40.0]}
    rows = rows_of("suffix", grid([TEXT], costs(), ["suffix"], [8, 16], over, oracle=True))
    assert len(rows) == 8
    assert all(row.regret >= 1 - 1e-9 for row in rows)


@pytest.fixture
def with_prompts(tmp_path):
    """A trace whose prompts are known, and costs, as words of a command."""
    from specbench.profile.cost_table import write_costs

    made = trace()
    texts = tuple(replace(text, prompt_ids=tuple(range(10))) for text in made.texts)
    write_trace(tmp_path / "t.json", replace(made, texts=texts))
    write_costs(tmp_path / "c.yaml", costs())
    return tmp_path / "t.json", "--costs", tmp_path / "c.yaml"


def test_replay_and_plan_take_them_as_keys_of_over(specbench, with_prompts):
    over = ("--method", "suffix", "--over", "methods.suffix.min_match=1..3", "--json")
    for words in (("replay", *with_prompts, "--over", "draft_length=2"), ("plan", "--trace", *with_prompts)):
        done = specbench(*words, *over)
        assert done.code == 0, done.err
        found = [row["condition"] for row in done.json["rows"] if row["method"] == "suffix"]
        assert found == [{"methods.suffix.min_match": value} for value in (1, 2, 3)]


@pytest.mark.parametrize("command", ["replay", "plan"])
@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("methods.suffix.min_length=1", "did you mean 'min_match'"),
        ("methods.suffix.min_match=1,0", "min_match: 0 is refused"),
        ("methods.suffix=1", "names no option"),
        ("methods.speculative_tree.nodes=8", "add --method speculative_tree"),
    ],
)
def test_an_option_that_no_method_has_gets_one_clear_error(specbench, with_prompts, command, over, message):
    words = (command, *with_prompts) if command == "replay" else (command, "--trace", *with_prompts)
    done = specbench(*words, "--method", "suffix", "--over", over)
    assert done.code in (2, 3)
    assert message in done.err
