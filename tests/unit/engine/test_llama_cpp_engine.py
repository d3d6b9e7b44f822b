"""llama.cpp as an engine: the cache, its rollback, and the same logits as ours have."""

import gc

import pytest
import torch
from builders import PLAIN, write_map
from gguf_models import ROWS, gguf_of, tiny_gguf, tiny_mamba_gguf

from specbench.api import CloudModel, EdgeModel
from specbench.errors import ExitCode, SpecbenchError
from specbench.models import vocabulary
from specbench.profile import CloudSpec, EdgeSpec, load_profile
from specbench.testing import tiny_llama

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")

TOKENS = [20, 31, 42, 53, 64, 75, 30, 41, 52, 63, 74, 21, 32, 43]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def edge(path, **fields):
    return EdgeModel(EdgeSpec(model=str(path), backend="llama_cpp", **fields))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", seed=3)


@pytest.fixture
def engine(path):
    return edge(path).engine


def test_its_logits_are_those_of_our_engine(path, engine):
    ours = EdgeModel(EdgeSpec(model=str(path))).engine
    assert (ours.kind, engine.kind) == ("eager", "llama_cpp")
    torch.testing.assert_close(
        engine.session().extend(TOKENS), ours.session().extend(TOKENS), **CLOSE, check_stride=False
    )


def test_a_split_set_is_read_by_llama_cpp_itself(path, engine, tmp_path):
    split = edge(tiny_gguf(tmp_path / "split.gguf", seed=3, split=8)).engine
    torch.testing.assert_close(split.session().extend(TOKENS), engine.session().extend(TOKENS))


def test_a_wide_pass_gives_the_logits_of_single_steps(engine):
    wide, steps = engine.session(), engine.session()
    rows = wide.extend(TOKENS)
    for index, token in enumerate(TOKENS):
        torch.testing.assert_close(steps.extend([token])[0], rows[index], **CLOSE)


def test_prefill_gives_the_last_row_alone(engine):
    row = engine.session().prefill(TOKENS)
    assert row.shape == (1, ROWS - 3)
    torch.testing.assert_close(row[0], engine.session().extend(TOKENS)[-1], **CLOSE)


def test_a_text_that_takes_many_passes_is_read_as_one(engine):
    text = [10 + index % 80 for index in range(700)]
    session = engine.session(len(text))
    last = session.prefill(text)
    assert session.cached_length == 700
    rows = engine.session(len(text)).extend(text)
    assert rows.shape == (700, ROWS - 3)
    torch.testing.assert_close(rows[-1:], last, **CLOSE)
    torch.testing.assert_close(engine.recompute(text, 3), rows[-3:], **CLOSE)


@pytest.mark.parametrize("keep", range(9, 14))
def test_after_a_rollback_the_past_is_as_if_the_rest_had_never_been(engine, keep):
    rolled, fresh = engine.session(), engine.session()
    rolled.prefill(TOKENS[:9])
    rolled.extend(TOKENS[9:12])
    rolled.extend(TOKENS[12:])
    rolled.truncate(keep)
    assert rolled.length == rolled.cached_length == keep
    fresh.prefill(TOKENS[:keep])
    torch.testing.assert_close(rolled.extend([50, 51]), fresh.extend([50, 51]), **CLOSE)


def test_a_cache_that_is_used_again_holds_nothing_of_the_text_before(engine):
    first = engine.session()
    expected = first.extend(TOKENS)
    context = first._context
    del first
    gc.collect()
    again = engine.session()
    assert again._context is context
    assert again.cached_length == 0
    torch.testing.assert_close(again.extend(TOKENS), expected)


def test_two_texts_at_a_time_do_not_disturb_each_other(engine):
    one, other = engine.session(), engine.session()
    one.prefill(TOKENS[:5])
    other.prefill(TOKENS[5:])
    alone = engine.session()
    alone.prefill(TOKENS[:5])
    torch.testing.assert_close(one.extend([50]), alone.extend([50]))


def test_what_does_not_fit_is_refused_before_anything_is_read(engine):
    session = engine.session(10)
    session.prefill(TOKENS)
    with pytest.raises(ValueError, match="2014 tokens do not fit a cache of"):
        session.extend([5] * 2000)
    assert session.length == session.cached_length == 14


def test_an_id_that_the_model_lacks_is_refused_and_leaves_the_cache_as_it_was(engine):
    session = engine.session()
    session.prefill(TOKENS)
    with pytest.raises(SpecbenchError, match="llama_decode: -1"):
        session.extend([5, ROWS + 7])
    assert session.length == session.cached_length == 14


def test_trees_are_refused(path, engine):
    with pytest.raises(ValueError, match="reads chains"):
        engine.session().extend([5, 6], [-1, -1])
    with pytest.raises(
        SpecbenchError, match=r"\(llama_cpp engine\) cannot read a tree of drafted tokens"
    ) as caught:
        edge(path).tree_drafter(PLAIN, 4)
    assert "specbench run speculative" in caught.value.hint


def test_a_recurrent_model_decodes_alone_and_cannot_speculate(tmp_path):
    mamba = edge(tiny_mamba_gguf(tmp_path / "mamba.gguf"))
    steps, wide = mamba.engine.session(), mamba.engine.session()
    rows = torch.cat([steps.extend([token]) for token in TOKENS])
    torch.testing.assert_close(wide.extend(TOKENS), rows, **CLOSE)
    with pytest.raises(
        SpecbenchError, match=r"cannot be rolled back, .* mamba keeps a recurrent state"
    ) as caught:
        mamba.drafter(PLAIN)
    assert caught.value.exit_code == ExitCode.MODEL


def test_threads_are_the_profile_s(path):
    assert edge(path, threads=1).engine.loaded.threads == 1
    assert edge(path).engine.loaded.threads == torch.get_num_threads()


def test_a_draft_with_a_vocabulary_of_its_own_needs_no_tokenizer(tmp_path):
    cloud = CloudModel(CloudSpec(model=str(tiny_llama(tmp_path / "cloud", seed=2)), device="cpu"))
    folder = tiny_llama(tmp_path / "draft", seed=9, vocab_size=32)
    path = gguf_of(folder, tmp_path / "draft.gguf", tokens=False)
    write_map(
        tmp_path / "vocab_map.json",
        target_ids=[3 * index + 2 for index in range(32)],
        unknown_id=4,
        target_vocabulary_size=96,
        tokenizer_sha256=vocabulary.fingerprint(cloud.tokenizer),
    )
    ours = EdgeModel(EdgeSpec(model=str(folder), vocab_map=str(tmp_path / "vocab_map.json"))).engine
    found = edge(path, vocab_map="vocab_map.json")
    found.demand_same_tokens(cloud)
    torch.testing.assert_close(
        found.engine.session().extend(TOKENS), ours.session().extend(TOKENS), **CLOSE, check_stride=False
    )


@pytest.mark.parametrize(
    ("kind", "dtype", "declared", "problem"),
    [
        ("F32", "float32", "float32", None),
        ("F16", "float16", "float16", None),
        ("Q8_0", "float32", "Q8_0 weights, float32 arithmetic", None),
        (
            "F16",
            "float32",
            "float32",
            "edge: token_embd.weight is float16, declared is float32 (16 tensors differ)",
        ),
    ],
)
def test_the_audit_tells_the_file_s_types_and_the_cache_s(tmp_path, kind, dtype, declared, problem):
    audit = edge(tiny_gguf(tmp_path / "m.gguf", seed=3, kind=kind), dtype=dtype).audit()
    assert (audit.declared, audit.problem) == (declared, problem)
    assert sum(group.tensors for group in audit.parameters) == 21
    assert [group.dtype for group in audit.cache] == [dtype]
    assert audit.logits == "float32"
    assert any("unknown: in which order" in line for line in audit.computed)
    rounded = {"F16": "F16", "Q8_0": "Q8_0"}.get(kind)
    assert any(
        f"rounded to {rounded} where they meet {kind} weights" in line for line in audit.computed
    ) == bool(rounded)


def test_a_folder_of_safetensors_is_refused(path):
    with pytest.raises(SpecbenchError, match=r"runs GGUF files, and .* is none") as caught:
        _ = edge(path.with_suffix("")).engine
    assert caught.value.exit_code == ExitCode.MODEL
    assert "convert_hf_to_gguf.py" in caught.value.hint


def test_a_file_that_llama_cpp_does_not_know_is_refused_with_its_own_words(path, tmp_path):
    (tmp_path / "lhama.gguf").write_bytes(path.read_bytes().replace(b"llama", b"lhama"))
    with pytest.raises(SpecbenchError, match=r"llama\.cpp cannot load .*lhama") as caught:
        _ = edge(tmp_path / "lhama.gguf").engine
    assert caught.value.exit_code == ExitCode.MODEL


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("edge.layers=1", "drop layers"),
        ("edge.quantization=int8", "drop quantization"),
        ("edge.device=cuda", "device is cuda"),
        ("edge.dtype=float64", "dtype is float64"),
    ],
)
def test_what_llama_cpp_does_not_do_is_refused_in_the_profile(setting, message):
    with pytest.raises(SpecbenchError, match=message) as caught:
        load_profile("default", ["edge.backend=llama_cpp", setting])
    assert caught.value.exit_code == ExitCode.PROFILE
