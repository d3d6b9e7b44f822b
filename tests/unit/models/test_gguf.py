"""GGUF files as models: read by transformers, whole, in a folder or split, and what their headers say."""

import os
import shutil

import pytest
import torch
from builders import PLAIN
from gguf_models import ROWS, tiny_gguf
from transformers import AutoModelForCausalLM

from specbench.api import CloudModel, EdgeModel, Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.models import files, gguf_files, llama_library, vocabulary
from specbench.models.storage import stored_as
from specbench.profile import CloudSpec, EdgeSpec

IDS = [5, 6, 7, 40, 41, 9, 12]
NEEDS_LLAMA_CPP = pytest.mark.skipif(not llama_library.is_installed(), reason="needs llama-cpp-python")


def cloud(place, **fields):
    return CloudModel(CloudSpec(model=str(place), device="cpu", **fields))


@pytest.fixture
def path(tmp_path):
    """A tiny Llama as a GGUF file; `path.with_suffix("")` is the same model as safetensors."""
    return tiny_gguf(tmp_path / "tiny.gguf", seed=3)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def logits_of(model):
    return model.engine.session().extend(IDS)


def test_a_file_computes_what_the_folder_does_that_it_was_made_of(path):
    theirs = AutoModelForCausalLM.from_pretrained(path.with_suffix(""), dtype=torch.float32)
    expected = theirs(torch.tensor([IDS])).logits[0].detach()
    found = logits_of(cloud(path))
    assert found.shape == (len(IDS), ROWS - 3)  # those that fill the vocabulary up are cut off
    torch.testing.assert_close(found, expected[:, : ROWS - 3])


def test_a_file_is_a_whole_model(path):
    model = cloud(path)
    assert model.stop_ids == {1}
    assert model.context_length == 2048
    assert "<|user|>" in model.tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert model.tokenizer.encode("cabin") == [
        model.tokenizer.get_vocab()[part] for part in ("c", "ab", "i", "n")
    ]
    assert len(model.target(PLAIN).begin(Request((5, 6, 7), 4, frozenset())).tokens) == 1


def test_all_files_of_a_split_set_are_one_model(tmp_path, cache):
    whole = tiny_gguf(tmp_path / "whole.gguf", seed=3)
    first = tiny_gguf(tmp_path / "split.gguf", seed=3, split=8)
    assert len(gguf_files.parts(first)) == 3
    other = first.with_name(first.name.replace("00001", "00002"))
    assert files.locate(CloudSpec(model=str(other)), weights=True) == first
    torch.testing.assert_close(logits_of(cloud(other)), logits_of(cloud(whole)))
    assert len(list((cache / "models").iterdir())) == 1  # the joined file, and nothing half written
    assert files.fingerprint(first).keys() == {part.name for part in gguf_files.parts(first)}
    assert stored_as(first) == stored_as(whole)


def test_a_part_that_is_missing_is_named(tmp_path, cache):
    first = tiny_gguf(tmp_path / "split.gguf", seed=3, split=8)
    first.with_name(first.name.replace("00001", "00002")).unlink()
    assert "split-00002-of-00003.gguf is missing" in refused(first).message


def refused(name):
    with pytest.raises(SpecbenchError) as caught:
        _ = cloud(name).engine
    assert caught.value.exit_code == ExitCode.MODEL
    return caught.value


@pytest.mark.parametrize("has_config", [False, True])
def test_a_folder_with_one_gguf_file_is_that_model(path, tmp_path, has_config):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(path, folder)
    (folder / "mmproj-tiny.gguf").write_bytes(b"GGUF of pictures, which are not asked for")
    if has_config:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tmp_path / "tiny" / name, folder)
    torch.testing.assert_close(logits_of(cloud(folder)), logits_of(cloud(path)))


def test_a_folder_with_two_models_wants_one_named(path):
    shutil.copy(path, path.with_name("other.gguf"))
    error = refused(path.parent)
    assert "holds 2 GGUF models: other.gguf, tiny.gguf" in error.message
    assert error.hint == f"name one of them, such as {path.with_name('other.gguf')}"


def test_types_of_the_file_are_part_of_the_audit_and_computed_in_the_profile_s_dtype(tmp_path):
    model = cloud(tiny_gguf(tmp_path / "q.gguf", seed=3, kind="Q8_0"), dtype="bfloat16")
    audit = model.audit()
    assert audit.stored == ("F32 x5", "Q8_0 x16")
    assert [group.dtype for group in audit.parameters] == ["bfloat16"]
    assert audit.problem is None


def test_an_architecture_that_transformers_does_not_know_is_sent_to_llama_cpp(path, tmp_path):
    data = path.read_bytes().replace(b"llama", b"lhama")
    (tmp_path / "lhama.gguf").write_bytes(data)
    error = refused(tmp_path / "lhama.gguf")
    assert "architecture lhama" in error.message
    for way in ("edge.backend=llama_cpp", "cloud.backend=openai", "specbench verify"):
        assert way in error.hint


@pytest.mark.parametrize("length", [10, 2000, -100])
def test_a_file_that_is_cut_short_is_one_clear_error(path, length):
    path.write_bytes(path.read_bytes()[:length])
    assert "is no GGUF file that can be read" in refused(path).message


@pytest.mark.parametrize("kind", ["file", "folder", "name"])
def test_what_cannot_be_read_is_one_clear_error(tmp_path, kind):
    place = tmp_path / (f"{'x' * 300}.gguf" if kind == "name" else "x.gguf")
    if kind == "file":
        place.symlink_to("/proc/self/mem")  # its first bytes are nobody's
    elif kind == "folder":
        place.mkdir(mode=0)
        if os.access(place, os.R_OK):
            pytest.skip("root reads every folder")
    assert f"model {place} cannot be read: " in refused(place).message


def test_a_vocabulary_with_fewer_types_than_tokens_is_refused(path):
    found = gguf_files.header(path)
    key, fields = "tokenizer.ggml.token_type", found.readers[0].fields
    fields[key] = fields[key]._replace(data=fields[key].data[:-1])
    with pytest.raises(SpecbenchError, match=f"has {ROWS} tokens and the types of {ROWS - 1}"):
        found.vocabulary()


def test_ranks_do_not_share_a_gguf_file(path):
    from specbench.models.loading import load_model

    with pytest.raises(SpecbenchError, match="cannot be split over 2 ranks"):
        load_model(path, CloudSpec(model=str(path), placement="process", parallel={"tensor": 2}))


def test_a_draft_of_one_file_and_a_target_of_another_know_the_same_tokens(path, tmp_path):
    edge = EdgeModel(EdgeSpec(model=str(tiny_gguf(tmp_path / "draft.gguf", seed=1))))
    assert edge.demand_same_tokens(cloud(path)) is None
    assert vocabulary.size(edge.tokenizer) == ROWS - 3


def test_a_hub_model_that_is_gguf_by_its_name_is_told_so(monkeypatch, tmp_path):
    import huggingface_hub

    # What the hub gives of such a repository: none of the files that are asked for.
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(SpecbenchError, match="by its name it holds GGUF files") as caught:
        _ = cloud("someone/Tiny-GGUF").config
    assert caught.value.exit_code == ExitCode.MODEL
    assert caught.value.hint == "download one of them, and name that file"


@NEEDS_LLAMA_CPP
def test_the_tokenizer_is_compared_with_llama_cpp_s(path):
    tokenizer = cloud(path).tokenizer
    assert "splits 7 sample texts as llama.cpp does" in llama_library.tokenizer_remark(path, tokenizer)
    tokenizer.backend_tokenizer.pre_tokenizer = None  # spaces are then no part of the alphabet
    assert "otherwise than llama.cpp, the first is" in llama_library.tokenizer_remark(path, tokenizer)


def test_a_tokenizer_that_is_not_compared_says_so(path, monkeypatch):
    monkeypatch.setattr(llama_library, "is_installed", lambda: False)
    remark = llama_library.tokenizer_remark(path, cloud(path).tokenizer)
    assert "is not compared with llama.cpp's" in remark
    assert "pip install 'specbench[llama-cpp]'" in remark
    assert llama_library.tokenizer_remark(path.with_suffix(""), None) is None
