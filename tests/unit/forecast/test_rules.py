"""Other rules, weighed by the likeliest tokens that a trace holds: near what the whole distributions say."""

import json
import math
from dataclasses import replace

import pytest
import torch
from replays import costs, trace
from test_traces import prepared_on, trace_of

from specbench.api import Options
from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_trace import read_trace, write_trace
from specbench.forecast.rule_acceptance import chances, shares
from specbench.forecast.trace_making import MOST_TOP, _chances, _top, readings
from specbench.profile import Decoding, Speculative
from specbench.profile.cost_table import write_costs

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, -9.0], [0.0, 3.0, 1.0, 1.5, 0.2]], dtype=torch.float64)


def text(draft, target, ranks):
    """A traced text of these tops, at a position each."""
    known = trace(count=1, tokens=len(ranks)).texts[0]
    return replace(known, draft_top=tuple(draft), target_top=tuple(target), target_rank=tuple(ranks))


def test_a_top_holds_the_likeliest_tokens_and_leaves_out_what_hardly_counts():
    (first, logs), (second, _) = _top(LOGITS)
    assert first == (0, 1, 2, 3)  # the last one has 1e-5
    assert second == (1, 3, 2, 4, 0)
    assert logs == pytest.approx(LOGITS[0].log_softmax(-1)[:4].tolist(), abs=1e-4)
    assert len(_top(torch.zeros(1, 500))[0][0]) == MOST_TOP
    assert _top(torch.tensor([[0.0, -torch.inf]]))[0][0] == (0,)


DECODINGS = (
    Decoding(temperature=1.0),
    Decoding(temperature=0.5),
    Decoding(),
    Decoding(temperature=1.0, top_k=2),
    Decoding(temperature=1.3, top_p=0.7),
)


@pytest.mark.parametrize("decoding", DECODINGS)
def test_shares_are_what_sampling_draws_from(decoding):
    from specbench.speculation.sampling import probabilities

    for top, row in zip(_top(LOGITS), probabilities(LOGITS, decoding), strict=True):
        found = shares(top, decoding)
        expected = {token: share for token, share in enumerate(row.tolist()) if share > 1e-4}
        assert found.keys() == expected.keys()
        assert list(found.values()) == pytest.approx([expected[token] for token in found], abs=1e-3)


def test_a_coupled_draft_is_as_likely_to_agree_as_shared_noise_makes_it():
    draft, target = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.5, 1.5, 0.0]])
    sampled = Decoding(temperature=1.0), Speculative(verification="coupled")
    (found,) = chances(text(_top(draft), _top(target), [1]), *sampled)
    noise = -torch.log(-torch.log(torch.rand(200_000, 3, generator=torch.Generator().manual_seed(1))))
    drawn = ((draft + noise).argmax(-1) == (target + noise).argmax(-1)).double().mean()
    assert found == pytest.approx(float(drawn), abs=0.005)
    (same,) = chances(text(_top(draft), _top(draft), [0]), *sampled)
    assert same == pytest.approx(1.0)


# Rows that are sure and that part: a choice that is the target's, its second, and one that it hardly knows.
DRAFT = torch.tensor([[6.0, 3.0, 2.0, 0.0], [6.0, 3.0, 2.0, 0.0], [0.0, 2.5, 1.5, 4.0]], dtype=torch.float64)
TARGET = torch.tensor([[5.0, 1.0, 2.5, 0.0], [3.0, 4.0, 0.5, 1.0], [6.0, 2.0, 3.0, 1.0]], dtype=torch.float64)


def weighed(draft, target, options):
    """The chances by the likeliest tokens, and by the whole distributions; of logits."""
    choices = draft.argmax(-1, keepdim=True)
    ranks = (target > target.gather(1, choices)).sum(-1).tolist()
    found = chances(text(_top(draft), _top(target), ranks), options.decoding, options.speculative)
    return list(found), _chances(draft, target, options)


def ruled(rule, temperature, **spec):
    return Options(
        decoding=Decoding(temperature=temperature), speculative=Speculative(verification=rule, **spec)
    )


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("rule", "spec"),
    [
        ("rejection", {}),
        ("one_hot", {}),
        ("rank", {"rank": 1}),
        ("rank", {"rank": 2}),
        ("typical", {}),
        ("typical", {"typical_epsilon": 1.0, "typical_delta": 0.5}),
    ],
)
def test_distributions_that_are_listed_whole_are_weighed_as_they_are(rule, spec, temperature):
    assert [len(ids) for ids, _ in (*_top(DRAFT), *_top(TARGET))] == [4] * 6
    found, exact = weighed(DRAFT, TARGET, ruled(rule, temperature, **spec))
    assert found == pytest.approx(exact, abs=1e-3)
    assert len(set(found)) > 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_choice_is_among_the_likeliest_where_a_sure_target_lists_fewer(temperature):
    draft, target = torch.full((1, 40), -9.0), torch.full((1, 40), -9.0)
    draft[0, 3] = 9.0
    target[0, :4] = torch.tensor([9.0, 0.5, 0.2, 0.1])
    assert _top(target)[0][0] == (0,)
    for rank, accepted in ((20, 1.0), (4, 1.0), (3, 0.0)):
        found, exact = weighed(draft, target, ruled("rank", temperature, rank=rank))
        assert found == pytest.approx(exact, abs=1e-3)
        assert found == pytest.approx([accepted], abs=1e-3)


@pytest.mark.parametrize("rule", ["rejection", "one_hot", "rank"])
def test_a_greedy_trace_weighs_another_rule_as_one_that_was_made_for_it(tmp_path, models, rule):
    path = tmp_path / "p.yaml"
    path.write_text(
        json.dumps(
            {
                "edge": {"model": str(models / "target"), "layers": 1},
                "cloud": {"model": str(models / "target"), "device": "cpu"},
                "engine": {"kind": "eager"},
                "workload": {"limit": 1, "max_new_tokens": 30},
            }
        )
    )
    known = trace_of(path).texts[0]
    assert known.chances is None
    wanted = f"speculative.verification={rule}", "speculative.rank=3"
    prepared, _ = prepared_on(path, *wanted)
    request = prepared.request(prepared.prompts[0], 0, 0, ())
    options = Options.of(prepared.profile)
    exact = readings(prepared.edge.engine, options, request, known.tokens, prepared.cloud.engine)["chances"]
    found = list(chances(known, options.decoding, options.speculative))
    assert found == pytest.approx(exact, abs=1e-3)
    assert len(set(found)) == 2


@pytest.fixture
def sparse(tmp_path):
    """A stored trace of two models that know two tokens alone, and its cost table."""
    top, other = ((1, 2), (math.log(0.7), math.log(0.3))), ((2, 1), (math.log(0.7), math.log(0.3)))
    texts = [
        replace(each, draft_top=(other,) * 40, target_top=(top,) * 40, target_rank=(0, 1, 1, 1) * 10)
        for each in trace().texts
    ]
    write_trace(tmp_path / "t.json", replace(trace(), texts=tuple(texts)))
    write_costs(tmp_path / "c.yaml", costs())
    return tmp_path / "t.json", "--costs", tmp_path / "c.yaml", "--over", "draft_length=1"


def test_rules_and_temperatures_are_varied_and_called_approximate(sparse, specbench):
    assert read_trace(sparse[0]).texts[0].target_rank[1] == 1
    done = specbench("replay", *sparse, "--over", "verification=greedy,rank", "--json")
    assert done.code == 0, done.err
    assert done.json["exact"] is False
    rows = [row for row in done.json["rows"] if row["method"] == "speculative"]
    assert rows[0]["acceptance_rate"] < 0.5  # three positions of four are another token, which rank 20 accepts
    assert rows[1]["acceptance_rate"] == 1.0
    assert "speculative_pipelined" not in {row["method"] for row in done.json["rows"]}
    over = ("--over", "verification=rejection,coupled", "--over", "temperature=0.5,1")
    swept = specbench("replay", *sparse, *over, "--json")
    assert swept.code == 0, swept.err
    cold, warm = [row["acceptance_rate"] for row in swept.json["rows"] if row["method"] == "speculative"][:2]
    assert cold < warm  # the two distributions part where they are sharpened


def test_the_profiles_names_serve_for_rules_and_temperatures(sparse, specbench):
    def rates(*over):
        words = [word for text in over for word in ("--over", text)]
        done = specbench("sweep", "--replay", *sparse, *words, "--json")
        assert done.code == 0, done.err
        return [row["acceptance_rate"] for row in done.json["rows"] if row["method"] == "speculative"]

    strict, loose = rates("speculative.verification=rank", "speculative.rank=1,2")
    assert (strict < 0.5, loose) == (True, 1.0)
    named = rates("speculative.verification=rejection", "decoding.temperature=0.5,1")
    assert named == rates("verification=rejection", "temperature=0.5,1")
    (narrow, wide) = rates("speculative.verification=rejection", "decoding.temperature=1", "decoding.top_k=1,0")
    assert (narrow, wide > 0.5) == (0.0, True)  # the two likeliest are not the same token


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (("verification=magic",), "verification"),
        (("temperature=-1",), "temperature"),
        (("verification=greedy", "temperature=1"), "needs temperature 0"),
    ],
)
def test_a_rule_that_is_none_gets_one_clear_error(sparse, specbench, over, message):
    done = specbench("replay", *sparse, *(word for value in over for word in ("--over", value)))
    assert done.code in (2, 3), done.err
    assert message in done.err


def test_a_pipelined_draft_knows_only_rules_that_repeat_the_control(sparse, specbench):
    done = specbench("replay", *sparse, "--over", "verification=rank", "--method", "speculative_pipelined")
    assert done.code == 2
    assert "not supported by speculative_pipelined" in done.err


def test_a_trace_without_likely_tokens_says_so(tmp_path, specbench):
    write_trace(tmp_path / "t.json", trace())
    write_costs(tmp_path / "c.yaml", costs())
    done = specbench(
        "replay", tmp_path / "t.json", "--costs", tmp_path / "c.yaml", "--over", "verification=rank"
    )
    assert done.code == 2
    assert "make it again" in done.err


def test_likely_tokens_that_do_not_fit_are_damage(tmp_path):
    known = trace().texts[0]
    with pytest.raises(ValueError, match="likely tokens"):
        replace(known, draft_top=(((1, 2), (0.0,)),) * 40)
    with pytest.raises(ValueError, match="do not fit"):
        replace(known, target_rank=(0,))
    with pytest.raises(SpecbenchError):
        read_trace(tmp_path / "none.json")
