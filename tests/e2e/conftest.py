"""The shipped profiles, so small that what names one takes seconds."""

import pytest
import yaml

import specbench.profile.loading

SMALL = {"limit": 2, "max_new_tokens": 6, "warmup": 0, "repeats": 1}


@pytest.fixture
def tiny_profiles(models, tmp_path, monkeypatch):
    """The shipped profiles on a tiny pair, with few and short answers."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    shipped = specbench.profile.loading.list_profiles()
    for name, path in shipped.items():
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for role, model in (("edge", "draft"), ("cloud", "target")):
            if "model" in values.get(role, {}):
                is_target = values[role]["model"] == "embedded:smollm2-135m-instruct"
                values[role]["model"] = str(models / ("target" if is_target else model))
        if values.get("edge", {}).get("vocab_map"):
            values["edge"]["vocab_map"] = None
        values["engine"] = {"kind": "eager"}
        values["workload"] = {**values.get("workload", {}), **SMALL}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    found = {name: folder / f"{name}.yaml" for name in shipped}
    monkeypatch.setattr(specbench.profile.loading, "list_profiles", lambda: found)
