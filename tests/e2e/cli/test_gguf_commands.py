"""Commands on GGUF files: the target through transformers, the draft in llama.cpp."""

import pytest
from gguf_models import tiny_gguf
from stores import stored

from specbench.errors import ExitCode

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ggufs")
    tiny_gguf(folder / "target.gguf", seed=2)
    tiny_gguf(folder / "draft.gguf", seed=1, num_hidden_layers=1)
    tiny_gguf(folder / "packed.gguf", seed=1, num_hidden_layers=1, kind="Q8_0")
    return folder


@pytest.fixture
def gguf_profile(ggufs, profile):
    def write(draft="draft.gguf", **edge):
        edge = {"model": str(ggufs / draft), **edge}
        return profile(edge=edge, cloud={"model": str(ggufs / "target.gguf")})

    return write


def texts_and_acceptance(run):
    return [
        (each.prompt_id, each.turn, [(part.tokens, part.drafted, part.accepted) for part in each.rounds])
        for each in run.generations
        if each.method == "speculative"
    ]


def test_a_draft_in_llama_cpp_is_accepted_as_often_as_in_our_engine(specbench, gguf_profile, tmp_path):
    found = {}
    for backend in ("transformers", "llama_cpp"):
        done = specbench("run", "speculative", "--profile", gguf_profile(backend=backend))
        assert done.code == 0, done.err
        found[backend] = stored(tmp_path, "latest")
    ours, theirs = found["transformers"], found["llama_cpp"]
    assert theirs.manifest.engines == {"edge": "llama_cpp", "cloud": "eager"}
    assert theirs.manifest.divergences == ()
    assert texts_and_acceptance(ours) == texts_and_acceptance(theirs)


def test_the_run_says_how_the_tokenizer_compares(specbench, gguf_profile):
    done = specbench("run", "speculative", "--profile", gguf_profile(backend="llama_cpp"))
    assert "splits 7 sample texts as llama.cpp does" in done.err


def test_check_dtype_tells_what_llama_cpp_computes_in(specbench, gguf_profile):
    done = specbench("check-dtype", "--profile", gguf_profile(backend="llama_cpp"), "--load")
    assert done.code == 0, done.out
    assert "unknown: in which order llama.cpp's kernels add up" in done.out
    done = specbench("check-dtype", "--profile", gguf_profile("packed.gguf", backend="llama_cpp"), "--load")
    assert done.code == ExitCode.CHECK_FAILED
    assert "differs: edge: token_embd.weight is Q8_0, and the cloud is float32" in done.out
    assert "--set precision.parity=per_role" in done.out


def test_a_packed_draft_runs_where_each_role_has_a_precision_of_its_own(specbench, gguf_profile, tmp_path):
    profile = gguf_profile("packed.gguf", backend="llama_cpp")
    refused = specbench("run", "speculative", "--profile", profile)
    assert refused.code == ExitCode.CHECK_FAILED
    assert "is Q8_0, and the cloud is float32" in refused.err
    done = specbench("run", "speculative", "--profile", profile, "--set", "precision.parity=per_role")
    assert done.code == 0, done.err
    assert "edge Q8_0 weights, float32 arithmetic, cloud float32" in " ".join(done.out.split())
    assert stored(tmp_path).manifest.models["edge"]["stored"] == ["F32 x3", "Q8_0 x9"]


def test_costs_are_measured_and_a_trace_is_made_and_replayed(specbench, gguf_profile, tmp_path):
    words = ("--profile", gguf_profile(backend="llama_cpp"))
    limits = specbench("limits", *words, "--costs", tmp_path / "costs.yaml", "--json")
    assert limits.code == 0, limits.err
    edge = limits.json["models"]["edge"]
    assert (edge["engine"], edge["fault"]) == ("llama_cpp", None)
    assert edge["weight_bytes"] > 0
    trace = specbench("trace", *words, "--out", tmp_path / "trace.json")
    assert trace.code == 0, trace.err
    replayed = specbench("replay", tmp_path / "trace.json", "--costs", tmp_path / "costs.yaml")
    assert replayed.code == 0, replayed.err


def test_a_method_of_transformers_own_passes_is_refused_before_anything_is_loaded(specbench, gguf_profile):
    done = specbench("run", "hf_assisted", "--profile", gguf_profile(backend="llama_cpp"))
    assert done.code == ExitCode.USAGE
    assert "edge.backend: llama_cpp is not supported by hf_assisted" in done.err
    assert "loading" not in done.err
