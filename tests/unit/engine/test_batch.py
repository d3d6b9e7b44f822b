"""Several texts share a pass, and none of them notices."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from builders import tiny_mistral

from specbench.cloud import CloudModel
from specbench.engine import batch
from specbench.engine.compiled.layers import CannotCompileError
from specbench.engine.compiled.packed import PackedEngine
from specbench.engine.session import Block, Passed
from specbench.profile import CloudSpec, Decoding, EngineSpec
from specbench.speculation.generate import generate_commits
from specbench.speculation.request import Request
from specbench.testing import tiny_llama

pytestmark = pytest.mark.usefixtures("two_threads")  # shares of a product are divided among threads

COMPILED = EngineSpec(kind="compiled")
INVARIANT = EngineSpec(kind="compiled", batch_invariant=True)
SEVERAL = {"sessions": 4}


def engine_of(folder, engine=None, dtype="float32"):
    spec = CloudSpec(model=str(folder), device="cpu", dtype=dtype, batch=SEVERAL)
    return CloudModel(spec, engine).engine


def tokens(count, seed=0):
    return torch.randint(4, 96, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("shared"), seed=3)


@pytest.fixture(scope="module")
def invariant(folder):
    return engine_of(folder, INVARIANT)


@pytest.fixture(
    scope="module",
    params=[
        "eager",
        "invariant",
        pytest.param("eager float64", marks=pytest.mark.slow),
        pytest.param("compiled", marks=pytest.mark.slow),
        pytest.param("compiled float64", marks=pytest.mark.slow),
    ],
)
def engine(request, folder, invariant):
    if request.param == "invariant":
        return invariant
    kind, _, dtype = request.param.partition(" ")
    found = engine_of(folder, COMPILED if kind == "compiled" else None, dtype or "float32")
    assert found.kind == kind
    return found


PROMPTS, WIDTHS = (3, 40, 17, 130), (1, 5, 2, 9)


def texts(engine):
    """For each text two sessions with the same prompt, and what is to be read next."""
    for seed, (length, width) in enumerate(zip(PROMPTS, WIDTHS, strict=True)):
        pair = engine.session(), engine.session()
        for session in pair:
            session.prefill(tokens(length, seed))
        yield *pair, tokens(width, seed + 9)


def test_sequences_that_share_passes_get_the_logits_of_passes_of_their_own(engine):
    known = list(texts(engine))
    for _ in range(3):
        shared = engine.extend_together([Block(session, block) for session, _, block in known])
        for rows, (session, single, block) in zip(shared, known, strict=True):
            torch.testing.assert_close(rows, single.extend(block), rtol=1e-4, atol=1e-4)
            assert session.length == session.cached_length == single.length
            for one in (session, single):
                one.truncate(one.length - len(block) + 1)  # all but the first are taken back


def test_company_changes_no_bit_where_rows_do_not_depend_on_their_number(invariant):
    known = list(texts(invariant))
    for count in range(1, len(known) + 1):
        shared = invariant.extend_together([Block(session, block) for session, _, block in known[:count]])
        for rows, (session, single, block) in zip(shared, known, strict=False):
            assert torch.equal(rows, torch.cat([single.extend([token]) for token in block]))
            for one in (session, single):
                one.truncate(one.length - len(block))


def test_more_rows_than_a_pass_may_have_are_read_in_several(invariant):
    known = [(invariant.session(), invariant.session(), tokens(20, seed)) for seed in range(5)]
    for pair in known:
        for session in pair[:2]:
            session.prefill([7, 8, 9])
    shared = invariant.extend_together([Block(session, block) for session, _, block in known])
    for rows, (_, single, block) in zip(shared, known, strict=True):
        assert torch.equal(rows, single.extend(block))


def test_a_block_that_does_not_fit_harms_no_other(invariant):
    small, large, other = invariant.session(4), invariant.session(200), invariant.session(200)
    for session in (small, large, other):
        session.prefill(tokens(60))
    blocks = [Block(session, tokens(30)) for session in (small, large, other)]
    refused, passed, _ = batch.together(invariant, blocks)
    assert isinstance(refused, ValueError)
    assert "cannot take 30 more" in str(refused)
    assert (passed.shared, passed.logits.shape) == (2, (30, 96))
    assert (small.length, large.length) == (60, 90)


def test_a_pass_that_fails_halfway_leaves_the_caches_and_is_made_again_for_each_alone(folder, monkeypatch):
    engine = engine_of(folder)
    known = list(texts(engine))
    last = engine.loaded.model.model.layers[-1].mlp
    monkeypatch.setattr(last, "forward", refuse_company(last.forward))
    found = batch.together(engine, [Block(session, block) for session, _, block in known])
    for passed, (session, single, block) in zip(found, known, strict=True):
        assert isinstance(passed, Passed)
        assert passed.shared == 1
        assert torch.equal(passed.logits, single.extend(block))
        assert session.cached_length == session.length == single.length


def refuse_company(forward):
    def only_narrow(hidden):
        if hidden.shape[1] > max(WIDTHS):
            raise RuntimeError("too many rows")
        return forward(hidden)

    return only_narrow


def test_a_model_that_sees_a_window_cannot_share_passes_and_says_why(tmp_path):
    engine = engine_of(tiny_mistral(tmp_path, window=5))
    assert "only full attention can be exchanged" in batch.obstacle(engine)


@pytest.mark.slow
def test_whoever_compiled_for_one_sequence_says_so(folder):
    spec = CloudSpec(model=str(folder), device="cpu")
    assert "compiled for one sequence" in batch.obstacle(CloudModel(spec, COMPILED).engine)


def test_shared_passes_of_another_device_than_a_cpu_are_eager(folder):
    loaded = engine_of(folder).loaded
    elsewhere = replace(loaded, device=torch.device("meta"))
    with pytest.raises(CannotCompileError, match="shared passes are compiled for the CPU only"):
        PackedEngine(elsewhere, 96)


def test_every_engine_that_shares_passes_has_no_obstacle(engine):
    assert batch.obstacle(engine) is None


def test_generate_computes_only_while_it_is_read_so_that_others_share_passes_between(folder):
    engine, asked = engine_of(folder), Request(tuple(tokens(20)), 12, frozenset())
    wanted = [token for one in generate_commits(engine.loaded, asked, Decoding()) for token in one.tokens]
    makers = []
    watch = engine.loaded.model.register_forward_pre_hook(
        lambda *arguments: makers.append(threading.current_thread().name)
    )
    known, found = list(texts(engine)), []
    for number, commit in enumerate(generate_commits(engine.loaded, asked, Decoding()), 1):
        found += commit.tokens
        blocks = [Block(session, block) for session, _, block in known]
        shared = engine.extend_together(blocks)
        time.sleep(0.02)  # for a `generate` that ran on
        assert makers.count("model.generate") == number
    watch.remove()
    assert found == wanted
    for rows, (_, single, block) in zip(shared, known, strict=True):
        assert rows.shape[0] == len(block)
        for _ in wanted:
            alone = single.extend(block)
        torch.testing.assert_close(rows, alone, rtol=1e-4, atol=1e-4)
