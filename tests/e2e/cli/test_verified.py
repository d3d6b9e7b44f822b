"""Methods that go around the engine, the link or the loader: noticed, and marked wherever they are shown."""

import json

import pytest
from stores import stored

RAW = """
from specbench.api import Decoder, Method, Round, hookimpl

class Raw(Method):
    name, summary, roles = "raw", "calls the model itself, and nobody else", ("cloud",)
    api_version = 4
    own_passes = {declared}

    def lossless(self, options):
        return True

    def open(self, edge, cloud, options):
        import torch
        from transformers import AutoModelForCausalLM

        class Decodes(Decoder):
            draft = AutoModelForCausalLM.from_pretrained({draft}) if {draft} else None

            @torch.inference_mode()
            def generate(self, request):
                ids, engine = list(request.prompt_ids), cloud.engine
                for _ in range(request.max_new_tokens):
                    logits = engine.loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
                    ids.append(int(logits[: engine.vocabulary_size].argmax()))
                    yield Round(tokens=ids[-1:])
                    if ids[-1] in request.stop_ids:
                        return

        return Decodes()

@hookimpl
def specbench_method() -> Method:
    return Raw()
"""
HERE = {"workload": {"limit": 2, "max_new_tokens": 6, "warmup": 1}}  # which loads what `raw` calls


@pytest.fixture
def raw(tmp_path):
    def write(declared=False, draft=None):
        path = tmp_path / "raw.py"
        path.write_text(RAW.format(declared=declared, draft=repr(draft)))
        return path

    return write


@pytest.fixture
def manifest(tmp_path):
    def read():
        return stored(tmp_path).manifest

    return read


def test_a_method_without_passes_of_the_engine_is_not_verified_wherever_it_is_shown(
    specbench, profile, raw, manifest, tmp_path
):
    done = specbench("run", "raw", "--profile", profile(**HERE), "--plugin", raw(), "--json")
    assert done.code == 0, done.err
    rows = done.json["methods"]
    rounds = manifest().work["raw"].rounds
    reason = (
        f"{rounds} of {rounds} rounds committed tokens without a pass of the cloud's engine "
        f"(models were called {rounds} times outside it)"
    )
    assert rows["raw"]["unverified"] == [reason]
    assert rows["raw"]["label"] == "not verified, lossless"
    assert rows["cloud_optimized_baseline"]["unverified"] == []
    assert "not verified" in rows["raw"]["statement"]
    run_id = manifest().run_id
    assert f"raw in run {run_id} is not verified: {reason}" in done.json["notes"]
    assert manifest().unverified == {"raw": (reason,)}
    assert "not verified" in specbench("compare").out
    for form in ("html", "md", "csv"):
        page = tmp_path / f"report.{form}"
        assert specbench("report", "--format", form, "--out", page).code == 0
        assert "not verified" in page.read_text()


def test_a_method_whose_tokens_come_past_the_link_is_not_verified_whatever_it_declares(
    specbench, profile, raw, manifest
):
    path = profile(link={"rtt_ms": 5}, **HERE)
    done = specbench("run", "raw", "--profile", path, "--plugin", raw(declared=True), "--json")
    assert done.code == 0, done.err
    (reason,) = done.json["methods"]["raw"]["unverified"]
    assert "rounds committed tokens that no frame from the cloud delivered" in reason
    assert manifest().work["raw"].answers == 0
    assert done.json["methods"]["cloud_optimized_baseline"]["unverified"] == []


@pytest.mark.slow
def test_passes_around_a_compiled_engine_are_counted(specbench, profile, raw, manifest):
    path = profile(engine={"kind": "compiled"}, workload={"limit": 1, "max_new_tokens": 4})
    done = specbench("run", "raw", "cloud_baseline", "--profile", path, "--plugin", raw(), "--json")
    assert done.code == 0, done.err
    calls = manifest().work["raw"].uncompiled
    assert calls == manifest().work["raw"].rounds
    told = f"models were called {calls} times outside their compiled engine: these passes ran eagerly"
    assert told in done.json["methods"]["raw"]["unverified"]
    declared = done.json["methods"]["cloud_baseline"]
    assert (declared["unverified"], declared["label"]) == ([], "lossless, eager passes")
    assert done.json["methods"]["cloud_optimized_baseline"]["unverified"] == []


def test_a_method_that_declares_its_own_passes_is_held_to_those(specbench, profile, raw):
    done = specbench(
        "run", "raw", "--profile", profile(**HERE), "--plugin", raw(declared=True), "--json", "--only"
    )
    assert done.code == 0, done.err
    assert done.json["methods"]["raw"]["unverified"] == []


def test_a_model_that_a_method_loads_by_itself_is_named_with_its_precision(
    specbench, profile, models, raw, manifest
):
    import torch
    from transformers import AutoModelForCausalLM

    narrow = models.parent / "narrow"
    AutoModelForCausalLM.from_pretrained(models / "draft", dtype=torch.bfloat16).save_pretrained(narrow)
    plugin = raw(declared=True, draft=str(narrow))
    done = specbench("run", "raw", "speculative", "--profile", profile(**HERE), "--plugin", plugin, "--json")
    assert done.code == 0, done.err
    (found,) = manifest().other_models
    assert (found.method, found.kind, found.dtype) == ("raw", "LlamaForCausalLM", "bfloat16")
    (reason,) = done.json["methods"]["raw"]["unverified"]
    assert reason.startswith("it loaded a model of its own, a LlamaForCausalLM of ")
    assert "in bfloat16" in reason
    assert done.json["methods"]["speculative"]["unverified"] == []


EVERY = [
    "edge_baseline", "cloud_baseline", "prompt_lookup", "speculative", "speculative_pipelined",
    "speculative_colocated", "suffix", "hybrid", "token_recycling", "speculative_tree",
]  # fmt: skip


@pytest.mark.parametrize(
    ("methods", "parts"),
    [
        ([*EVERY, "early_exit", "hf_assisted", "hf_assisted_dynamic"], {}),
        pytest.param(EVERY, {"link": {"rtt_ms": 2}}, marks=pytest.mark.slow),
        pytest.param(EVERY, {"engine": {"kind": "compiled"}}, marks=pytest.mark.slow),
        (["speculative"], {"speculative": {"gate": {"measure": "entropy", "threshold": 9.0}}}),
    ],
    ids=["here", "link", "compiled", "gate"],
)
def test_our_own_methods_are_verified(specbench, profile, manifest, methods, parts):
    done = specbench("run", *methods, "--profile", profile(**HERE, **parts), "--json")
    assert done.code == 0, done.err
    assert manifest().unverified == {}, json.dumps({name: str(work) for name, work in manifest().work.items()})
    assert manifest().work.keys() == {*methods, "cloud_optimized_baseline"}
    assert all(work.rounds for work in manifest().work.values())
    assert manifest().other_models == ()


def test_a_cloud_in_another_process_is_held_to_its_frames(specbench, profile, manifest):
    path = profile(cloud={"placement": "process"}, workload={"limit": 1, "max_new_tokens": 6})
    done = specbench("run", "speculative", "--profile", path, "--json")
    assert done.code == 0, done.err
    assert manifest().unverified == {}
    assert all(work.answers >= work.rounds > 0 for work in manifest().work.values())
    assert all(work.passes is None for work in manifest().work.values())
