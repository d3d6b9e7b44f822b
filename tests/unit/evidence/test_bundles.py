"""A bundle: the same bytes from the same runs, and one error for a file that is none."""

import stat
import zipfile

import pytest
from bundles import PROMPTS

from specbench.errors import SpecbenchError
from specbench.evidence import archive
from specbench.evidence.bundle import bundle, read


def test_the_same_runs_make_the_same_bytes(bundled):
    assert bundled("a.zip").read_bytes() == bundled("b.zip").read_bytes()


def test_it_holds_rounds_prompts_figures_and_claims(bundled, store):
    found = read(bundled())
    assert found.runs[0].generations == store.read("r1").generations
    assert found.prompts["r1"] == tuple(PROMPTS)
    assert found.document["methods"]["m"]["verdict"] == "faster"
    assert [claim.id for claim in found.claims] == ["m-speedup", "m-verdict", "m-identity", "m-bugs"]
    assert found.changed == ()


def test_a_run_that_lost_answers_is_not_bundled(store):
    path = store.folder / "r1" / "generations.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(SpecbenchError, match="no bundle: 1 of 24 answers of run r1"):
        bundle(store, ["r1"])


def test_a_file_that_was_changed_missing_or_added_is_named(bundled):
    def change(files):
        files["claims.yaml"] += b"# more\n"
        files["runs/r1/more.json"] = b"{}"
        del files["runs/r1/prompts.jsonl"]
        return files

    assert read(bundled(change=change)).changed == (
        "claims.yaml is not as it was bundled: its SHA-256 differs from that in bundle.json",
        "runs/r1/more.json is not in bundle.json",
        "runs/r1/prompts.jsonl is missing",
    )


def hostile(path, name="claims.yaml", mode=stat.S_IFREG, data=b"x", times=1):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive_:
        for _ in range(times):
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (mode | 0o644) << 16
            archive_.writestr(entry, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "strange",
    [
        {"name": "../claims.yaml"},
        {"name": "/etc/passwd"},
        {"name": "runs/../../x.json"},
        {"name": "runs/../x.json"},
        {"name": "runs\\..\\x.json"},
        {"name": "claims.yaml", "mode": stat.S_IFLNK},
        {"times": 2},
    ],
    ids=str,
)
def test_paths_out_of_it_links_and_doubles_are_refused(tmp_path, strange):
    with pytest.raises(SpecbenchError, match="is refused: it holds") as caught:
        archive.read(hostile(tmp_path / "h.zip", **strange))
    assert caught.value.exit_code == 5


def test_one_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 1_000_000)
    path = hostile(tmp_path / "h.zip", data=bytes(1_000_001))
    assert path.stat().st_size < 5_000
    with pytest.raises(SpecbenchError, match="is refused: it unpacks to more than"):
        archive.read(path)


def test_a_size_that_lies_is_an_error_too(tmp_path):
    path = hostile(tmp_path / "h.zip", data=bytes(1_000_000))
    data = path.read_bytes()
    path.write_bytes(data.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(SpecbenchError, match="is no bundle, or is damaged"):
        archive.read(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_one_that_is_cut_off_is_one_error(bundled, share):
    path = bundled()
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(SpecbenchError) as caught:
        read(path)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("name", ["bundle.json", "comparison.json", "claims.yaml", "runs/r1/manifest.json",
                                  "runs/r1/generations.jsonl"])  # fmt: skip
@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[1]", b"[" * 100_000, b'{"schema_version": 2}', None])
def test_a_damaged_part_is_one_error(bundled, name, data):
    def change(files):
        files[name] = data
        if data is None:
            del files[name]
        return files

    if (name, data) == ("runs/r1/generations.jsonl", b""):  # of which a recheck says that answers are missing
        assert read(bundled(change=change)).runs[0].faults
        return
    if name == "comparison.json" and data == b'{"schema_version": 2}':  # likewise
        assert read(bundled(change=change)).changed
        return
    if name == "runs/r1/generations.jsonl" and data:
        data += b"\n"
    with pytest.raises(SpecbenchError) as caught:
        read(bundled(change=change))
    assert caught.value.exit_code == 5


def test_a_bundle_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(SpecbenchError, match="cannot be read: No such file"):
        read(tmp_path / "nowhere.zip")
