"""Where weights come from: read from headers and configurations, never from the weights."""

import json
import shutil

import numpy
import pytest
import torch
from safetensors.torch import save_file

from specbench.errors import SpecbenchError
from specbench.models import files, storage
from specbench.models.storage import stored_as
from specbench.testing import tiny_llama


@pytest.fixture
def folder(models, tmp_path):
    return shutil.copytree(models / "target", tmp_path / "model")


def configure(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_stored_dtypes_are_counted(folder):
    assert stored_as(folder) == ("F32 x21",)


def test_every_shard_is_counted(models, tmp_path):
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(models / "target", dtype=torch.float32)
    model.model.layers[0].mlp.up_proj.to(torch.float16)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert stored_as(tmp_path / "sharded") == ("F16 x1", "F32 x20")


def test_types_of_a_gguf_file_are_told(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    values = numpy.ones((2, 64), dtype=numpy.float32)
    for name, kind in (("a", "Q8_0"), ("b", "Q4_0")):
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.add_tensor("c", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert stored_as(tmp_path) == (
        "model.gguf: GGUF F32 x1", "model.gguf: GGUF Q4_0 x1", "model.gguf: GGUF Q8_0 x1",
    )  # fmt: skip


def test_a_damaged_gguf_file_is_one_clear_error(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(SpecbenchError, match="no GGUF file that can be read"):
        stored_as(tmp_path)


def test_pickled_weights_are_not_opened_and_unknown(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything at all")
    assert stored_as(folder) == ("pytorch_model.bin: unknown (pickled, not opened)",)


def test_a_damaged_file_is_an_error_and_not_unknown(folder):
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(SpecbenchError, match="damaged"):
        stored_as(folder)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes, 8 bits"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
def test_a_quantised_checkpoint_says_so(folder, settings, told):
    assert storage.quantization(folder) is None
    configure(folder, quantization_config=settings)
    assert storage.quantization(folder) == told


def test_an_adapter_is_told_apart_from_the_weights_and_belongs_to_the_fingerprint(models, folder):
    before = files.fingerprint(folder)
    save_file({"lora": torch.ones(2, 2, dtype=torch.float16)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    assert stored_as(folder) == ("F32 x21",)
    assert storage.adapters(folder) == ("LORA of rank 8 in adapter_config.json (F16 x1)",)
    files.fingerprint.cache_clear()
    assert files.fingerprint(folder).keys() - before.keys() == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip


def test_a_folder_without_adapters_has_none(tmp_path):
    assert storage.adapters(tiny_llama(tmp_path / "m", seed=1)) == ()
