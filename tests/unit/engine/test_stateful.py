"""Models whose state cannot be cut: it is restored from copies, and speculation stays exact."""

import pytest
import torch
from builders import PLAIN, shaken, speculated, tiny

from specbench.api import CloudModel, EdgeModel, Options, Request, SpeculativeDecoder, SpeculativeLoop
from specbench.engine.rereading import MOST_TOGETHER, Reread
from specbench.engine.stateful_session import MOST_KEPT
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.speculation.request import Needs

PROMPT = tuple(range(10, 30))
BUDGET = 32
WINDOWED = {"num_key_value_heads": 1, "head_dim": 8, "attention_window_size": 8}
LINEAR = {f"linear_{name}_head_dim": 8 for name in ("key", "value")}
LINEAR |= {f"linear_num_{name}_heads": 2 for name in ("key", "value")}
FAMILIES = {
    "mamba": {"state_size": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "minimax": {"layer_types": ["linear_attention", "full_attention"], "block_size": 8, "num_local_experts": 4},
    "qwen3_5_text": {**LINEAR, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"]},
    "recurrent_gemma": {**WINDOWED, "lru_width": 32, "block_types": ["recurrent", "attention"]},
    "rwkv": {"attention_hidden_size": 32, "context_length": 512},
}
SINGLY = {"mamba", "minimax", "recurrent_gemma"}
RULES = {
    "greedy": PLAIN,
    "coupled": Options(Decoding(temperature=0.9), Speculative(verification="coupled")),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    target = tiny(folder / "target", request.param, **FAMILIES[request.param])
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu"))
    edge = EdgeModel(EdgeSpec(model=str(shaken(folder / "draft", target, by=0.1))))
    return request.param, cloud, edge


def asked(seed=3):
    return Request(PROMPT, BUDGET, frozenset(), seed)


def alone(cloud, options):
    """Rounds of the control."""
    target = cloud.target(options)
    rounds = [target.begin(asked())]
    for part in target.decode():
        target.check()
        rounds.append(part)
    return rounds


def drafted(cloud, edge, options, length=4):
    """Rounds of speculation."""
    drafter, target = edge.drafter(options), cloud.verifier(options)
    decoder = SpeculativeDecoder(drafter, target, SpeculativeLoop(drafter, target, length))
    rounds = []
    for part in decoder.generate(asked()):
        target.check()
        drafter.check()
        rounds.append(part)
    return rounds


def tokens(rounds):
    return [token for part in rounds for token in part.tokens]


@pytest.mark.parametrize("rule", RULES)
def test_speculation_says_what_the_control_says(family, rule):
    _, cloud, edge = family
    rounds = drafted(cloud, edge, RULES[rule])
    assert tokens(rounds) == tokens(alone(cloud, RULES[rule]))
    refused = [part for part in rounds[1:] if part.accepted < part.drafted]
    assert refused, "nothing was rolled back"
    assert sum(part.accepted for part in rounds[1:])


def test_several_proposals_in_flight_say_what_the_control_says(family):
    _, cloud, edge = family
    target = cloud.verifier(PLAIN)
    said = speculated(edge, target, Options(Decoding(), Speculative(window=3)), asked())
    assert said == tokens(alone(cloud, PLAIN))


def test_what_is_read_again_is_counted_as_a_replay_counts_it(family):
    name, cloud, edge = family
    reread, seen = Reread(name not in SINGLY), 0
    for part in drafted(cloud, edge, PLAIN)[1:]:
        assert part.replayed_tokens == (reread.again or 0)
        seen += part.replayed_tokens
        reread.judged(part.drafted + 1, part.drafted - part.accepted)
        assert part.snapshot_bytes > 0 or not part.drafted
    assert bool(seen) == (name not in SINGLY)


def test_the_control_copies_nothing(family):
    _, cloud, _ = family
    assert {part.replayed_tokens for part in alone(cloud, PLAIN)} == {None}
    session = cloud.engine.session()
    session.prefill(PROMPT)
    session.settle(len(PROMPT) + 1)
    session.extend([5])
    assert session.restored.snapshot_bytes == 0
    session.extend([6])
    assert session.restored.snapshot_bytes > 0


@pytest.mark.parametrize("kept", [40, 31, 28, 24, 21, 20, 7, 0])
def test_after_a_rollback_the_past_is_as_if_the_rest_had_never_been(family, kept):
    _, cloud, _ = family
    text = [10 + index * 7 % 80 for index in range(40)]
    fresh = cloud.engine.session()
    whole = [*text[:kept], 50, 51]
    expected = fresh.prefill(whole)
    del fresh
    rolled = cloud.engine.session()
    rolled.prefill(text[:20])
    for start, end in ((20, 21), (21, 26), (26, 31), (31, 40)):
        rolled.extend(text[start:end])
    rolled.truncate(kept)
    assert rolled.length == rolled.cached_length == kept
    torch.testing.assert_close(rolled.extend([50, 51])[-1:], expected, rtol=1e-3, atol=1e-4)
    assert rolled.cached_length == kept + 2


def test_a_copy_that_a_refusal_made_void_is_never_restored(family):
    _, cloud, _ = family
    text, other = [10 + index * 7 % 80 for index in range(24)], [33, 44, 55, 66]
    expected = cloud.engine.session().prefill([*text[:20], *other, 5])
    session = cloud.engine.session()
    session.prefill(text[:18])
    session.extend(text[18:20])
    session.extend(text[20:22])
    session.extend(text[22:24])
    session.truncate(21)
    session.settle(22)
    session.truncate(20)
    session.extend(other[:2])
    session.extend([1, 2])
    session.truncate(22)
    torch.testing.assert_close(session.extend([*other[2:], 5])[-1:], expected, rtol=1e-3, atol=1e-4)


def test_many_refusals_in_a_row_get_a_pass_of_their_own(family):
    name, cloud, _ = family
    if name in SINGLY:
        pytest.skip("every token has a pass")
    engine = cloud.engine
    session, text = engine.session(), list(PROMPT)
    session.prefill(text)
    took = []
    for _ in range(8):
        before = engine.passes
        session.settle(len(text))
        session.extend([40, 41, 42, 43, 44])
        took.append(engine.passes - before)
        text += [40, 41, 42]
        session.truncate(len(text))
    rounds = MOST_TOGETHER // 3 + 1
    assert took[: rounds + 2] == [*[1] * rounds, 1 if 3 * rounds <= MOST_TOGETHER else 2, 1]


def test_a_long_draft_keeps_so_many_copies_and_no_more(family):
    _, cloud, _ = family
    session = cloud.engine.session()
    session.prefill(PROMPT)
    for token in range(3 * MOST_KEPT):
        session.extend([10 + token])
        assert len(session._kept) <= MOST_KEPT


def test_trees_and_assisted_generation_are_refused_by_name(family):
    _, cloud, edge = family
    kind = type(cloud.engine.loaded.model).__name__
    for ask in (
        lambda: cloud.verifier(PLAIN, Needs(trees=True)),
        lambda: edge.tree_drafter(PLAIN, 8),
        lambda: cloud.assisted(edge, PLAIN, dynamic=False),
    ):
        with pytest.raises(SpecbenchError, match=f"{kind} keeps a state of its text") as caught:
            ask()
        assert caught.value.exit_code == ExitCode.MODEL
