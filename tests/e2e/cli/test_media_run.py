"""Runs on prompts with images: what is stored, bundled and refused."""

import hashlib
import shutil

import pytest
from media import IMAGE_TOKEN, text_draft, tiny_llava, write_picture, write_prompts
from stores import stored

from specbench.evidence import archive
from specbench.results.store import RunStore

pytest.importorskip("PIL")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A target that reads images, and a draft that does not."""
    folder = tmp_path_factory.mktemp("seeing")
    tiny_llava(folder / "target")
    text_draft(folder / "draft")
    return folder


@pytest.fixture
def shown(seeing, profile, tmp_path):
    """A profile whose prompts show images that lie beside them."""
    (tmp_path / "asked").mkdir()
    for seed in (1, 2):
        write_picture(tmp_path / "asked" / f"{seed}.png", seed)
    prompts = write_prompts(
        tmp_path / "asked" / "prompts.jsonl",
        [{"image": "1.png", "text": "what is this?"}, "and why?"],
        [{"image": "2.png"}],
        ["no image here"],
    )
    return profile(
        edge={"model": str(seeing / "draft")},
        cloud={"model": str(seeing / "target")},
        engine={"kind": "auto"},
        workload={"prompts": str(prompts), "warmup": 0, "max_new_tokens": 6},
    )


def test_a_run_stores_and_bundles_the_hashes_of_its_files(specbench, shown, tmp_path):
    done = specbench("run", "speculative", "cloud_baseline", "--profile", shown, "--name", "mine")
    assert done.code == 0, done.err
    assert "the models run eagerly, because prompts show images or sounds" in done.err
    manifest, records = stored(tmp_path).manifest, stored(tmp_path).generations
    (file,) = manifest.files["1"]
    assert (file.turn, file.kind, file.path) == (0, "image", None)
    assert file.sha256 == hashlib.sha256((tmp_path / "asked" / "1.png").read_bytes()).hexdigest()
    assert sorted(manifest.files) == ["1", "2"]
    assert "the draft reads prompts without their images and sounds" in manifest.remarks[0]
    assert "(llama) reads no image" in manifest.remarks[0]
    assert not manifest.failures
    assert not manifest.unchecked
    assert manifest.recomputation is not None
    assert {found.verdict for found in manifest.divergences} <= {"tie"}
    assert len(records) == 12
    specbench("bundle", "mine", "--out", tmp_path / "b.zip")
    held = specbench("recheck", tmp_path / "b.zip", "--json")
    assert (held.code, held.json["holds"]) == (0, True)
    files = archive.read(tmp_path / "b.zip")
    assert str(tmp_path) not in b"".join(files.values()).decode()
    (prompts,) = [data for name, data in files.items() if name.endswith("prompts.jsonl")]
    assert f'"image": "1.png", "sha256": "{file.sha256}"' in prompts.decode()


@pytest.mark.slow
def test_over_a_link_the_file_crosses_and_the_text_is_the_controls(specbench, shown, tmp_path):
    done = specbench("run", "speculative", "--profile", shown, "--set", "link.rtt_ms=1")
    assert done.code == 0, done.err
    run = stored(tmp_path)
    assert not run.manifest.unchecked
    assert {found.verdict for found in run.manifest.divergences} <= {"tie"}
    first = {each.prompt_id: each.rounds[0].bytes_up for each in run.generations if each.turn == 0}
    assert first["1"] - first["3"] > (tmp_path / "asked" / "1.png").stat().st_size


@pytest.mark.slow
def test_a_changed_image_makes_another_question(specbench, shown, tmp_path):
    for name in ("before", "after"):
        assert specbench("run", "cloud_baseline", "--profile", shown, "--name", name).code == 0
        write_picture(tmp_path / "asked" / "1.png", 3)
    refused = specbench("compare", "before", "after")
    assert refused.code != 0
    assert "prompts" in refused.err
    runs = RunStore(tmp_path / "runs")
    hashes = [
        {each.prompt_id: each.prompt_sha256 for each in runs.read(runs.find(name)).generations if not each.turn}
        for name in ("before", "after")
    ]
    assert [name for name in hashes[0] if hashes[0][name] != hashes[1][name]] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("speculative", "--set", "engine.kind=compiled"), "which engine.kind: compiled does not read"),
        (("hf_assisted",), "which hf_assisted does not read"),
        (("early_exit",), "which early_exit does not read"),
        (("speculative_eagle",), "which speculative_eagle does not read"),
        (("speculative", "--set", "workload.chat_template=raw"), "a chat template says where an image"),
        (("speculative", "--set", "cloud.model={draft}"), "(llama) reads no image"),
    ],
)
def test_what_cannot_read_an_image_is_refused_by_name(specbench, shown, seeing, tmp_path, arguments, message):
    words = [word.format(draft=seeing / "draft") for word in arguments]
    refused = specbench("run", *words, "--profile", shown)
    assert refused.code != 0
    assert message in refused.err
    assert refused.err.count("error: ") == 1
    assert "Traceback" not in refused.err
    assert not list((tmp_path / "runs").glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"image": "gone.png"}, "cannot be read: No such file"),
        ({"image": "."}, "is no regular file"),
        ({"image": "prompts.jsonl"}, "prompt 1: a file is no image, or of another format"),
        ({"image": "1.png", "sha256": "0" * 64}, "is not the file that was asked"),
        ({"image": "1.png", "audio": "1.wav"}, "turn 1 is no text and no image or audio"),
        ({"image": 1}, "image is no path"),
        ({"video": "1.mp4"}, "turn 1 is no text and no image or audio"),
        ({"audio": "1.png"}, "reads no audio"),
        ({"image": "1.png", "text": "{placeholder}"}, "cannot read the prompt"),
    ],
)
def test_a_wrong_file_is_one_error(specbench, shown, tmp_path, turn, message):
    from media import tokenizer

    if "text" in turn:
        turn = {**turn, "text": tokenizer().convert_ids_to_tokens(IMAGE_TOKEN)}
    write_prompts(tmp_path / "asked" / "prompts.jsonl", [turn])
    refused = specbench("run", "speculative", "--profile", shown)
    assert refused.code != 0
    assert message in refused.err
    assert refused.err.count("error: ") == 1
    assert "Traceback" not in refused.err


@pytest.mark.slow
def test_a_bundle_of_images_is_reproduced_where_they_are(specbench, shown, seeing, tmp_path):
    assert specbench("run", "cloud_baseline", "--profile", shown, "--name", "mine").code == 0
    specbench("bundle", "mine", "--out", tmp_path / "b.zip")
    there = "--set", f"cloud.model={seeing / 'target'}", "--set", f"edge.model={seeing / 'draft'}"
    missing = specbench("reproduce", tmp_path / "b.zip", *there)
    assert missing.code != 0
    assert "1.png cannot be read: No such file" in missing.err
    kept = tmp_path / "runs" / "prompts"
    for seed in (1, 2):
        shutil.copy(tmp_path / "asked" / f"{seed}.png", kept)
    assert specbench("reproduce", tmp_path / "b.zip", *there).code == 0
