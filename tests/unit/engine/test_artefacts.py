"""What the compiled engine keeps on disk: choices of kernels, and no more programs than are used."""

import json
import os

import pytest
import torch

from specbench.cloud import CloudModel
from specbench.engine import kernels, program_cache
from specbench.engine.compiled import programs
from specbench.engine.compiled.step import Step
from specbench.engine.kernels import choice
from specbench.profile import CloudSpec

#                      1    2    4    8    16   32   64   128 rows
USUAL = [0.4, 0.4, 0.4, 0.4, 0.6, 0.9, 1.3, 1.6]


def test_the_kernel_that_is_faster_serves_the_widths_at_which_it_is():
    assert choice.widest(USUAL) == 32
    assert choice.widest([0.4, 0.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]) == 2
    assert choice.widest([1.5] * 8) == 0


@pytest.mark.parametrize("disturbed", range(8))
def test_one_width_that_was_measured_wrongly_does_not_turn_the_choice_at_narrow_widths(disturbed):
    for factor in (0.2, 5.0):
        ratios = list(USUAL)
        ratios[disturbed] *= factor
        assert choice.widest(ratios) >= 8


def test_products_that_are_as_fast_as_each_other_leave_our_own():
    assert choice.widest([1.05] * 8) == choice.WIDTHS[-1]


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache of the test's own; the kernels are those of everybody, for they take a minute to compile."""
    kernels.load()
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_a_choice_is_measured_once(monkeypatch, own_cache):
    weights = [torch.ones(24, 32), torch.ones(24, 32), torch.ones(8, 16)]
    chosen = choice.widest_by_shape(weights, "k")
    assert chosen.keys() == {(24, 32), (8, 16)}
    monkeypatch.setattr(choice, "_time", lambda *_: pytest.fail("measured twice"))
    assert choice.widest_by_shape(weights, "k") == chosen
    stored = json.loads((own_cache / "compiled" / "k.kernels.json").read_text())
    assert set(stored) == {"[24, 32]", "[8, 16]"}


@pytest.mark.parametrize("text", ["", '{"[8, 16]": 8', "[]", "{}", '{"[8, 16]": "8"}', '{"[8, 16]": 3}'])
def test_a_damaged_choice_is_measured_anew(own_cache, text):
    path = own_cache / "compiled" / "k.kernels.json"
    path.parent.mkdir()
    path.write_text(text)
    chosen = choice.widest_by_shape([torch.ones(8, 16)], "k")
    assert json.loads(path.read_text()) == {"[8, 16]": chosen[8, 16]}
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def large_weights(monkeypatch):
    monkeypatch.setattr(choice, "LARGE", 1 << 16)
    yield [torch.ones(64, 64) for _ in range(5)]
    torch.ops.specbench.read_one_by_one(False)


def test_how_rows_are_read_is_measured_once_for_a_machine_and_on_large_weights_alone(
    monkeypatch, own_cache, large_weights
):
    choice.settle_reading(large_weights[:1])
    assert not (own_cache / "compiled").exists()
    choice.settle_reading(large_weights)
    (path,) = (own_cache / "compiled").iterdir()
    assert json.loads(path.read_text()) in ({"one_by_one": True}, {"one_by_one": False})
    monkeypatch.setattr(choice, "_is_faster_one_by_one", lambda _: pytest.fail("measured twice"))
    choice.settle_reading(large_weights)
    path.write_text('{"one_by_one": 1}')
    monkeypatch.setattr(choice, "_is_faster_one_by_one", lambda _: True)
    choice.settle_reading(large_weights)
    assert json.loads(path.read_text()) == {"one_by_one": True}


def step(loaded, attend=True, keeps=True, takes=True, size=96, widest=None):
    return Step(loaded.model, attend, keeps, takes, size, widest or {(8, 16): 4}, layers=())


@pytest.fixture(scope="module")
def loaded(models):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu")).engine.loaded


def test_the_same_pass_has_the_same_name(loaded):
    assert programs.fingerprint(step(loaded), True) == programs.fingerprint(step(loaded), True)


@pytest.mark.parametrize(
    "other",
    [{"attend": False}, {"keeps": False}, {"takes": False}, {"size": 95}, {"widest": {(8, 16): 8}}],
    ids=lambda other: next(iter(other)),
)
def test_a_pass_that_does_something_else_has_another_name(loaded, other):
    assert programs.fingerprint(step(loaded), True) != programs.fingerprint(step(loaded, **other), True)


def test_a_pass_of_other_weights_settings_or_threads_has_another_name(loaded, models):
    draft = CloudModel(CloudSpec(model=str(models / "draft"), device="cpu")).engine.loaded
    known = programs.fingerprint(step(loaded), True)
    assert programs.fingerprint(step(draft), True) != known
    assert programs.fingerprint(step(loaded), False) != known
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert programs.fingerprint(step(loaded), True) != known
    finally:
        torch.set_num_threads(before)


def test_another_processor_has_programs_and_choices_of_its_own(loaded, monkeypatch):
    known = programs.fingerprint(step(loaded), "kernels")
    monkeypatch.setattr(programs.kernels, "processor", lambda: f"{kernels.build.processor()} v2")
    assert programs.fingerprint(step(loaded), "kernels") != known


def test_what_another_process_tidies_away_meanwhile_is_no_error(tmp_path):
    for name in ("a.pt2", "b.kernels.json", f"{program_cache.SCRATCH_PREFIX}dead"):
        (tmp_path / name).symlink_to(tmp_path / "gone")  # listed, and not there
    program_cache.tidy(tmp_path)


def test_only_what_was_used_last_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(program_cache, "KEPT", 3)
    names = ["a.pt2", "b.kernels.json", "c.pt2", "d.pt2", "e.kernels.json"]
    for age, name in enumerate(names):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "a.constants").write_text("")
    (tmp_path / "d.constants").write_text("")
    program_cache.mark_used(tmp_path / "d.pt2")
    left = tmp_path / f"{program_cache.SCRATCH_PREFIX}dead"
    left.mkdir()
    os.utime(left, (0, 0))
    running = tmp_path / f"{program_cache.SCRATCH_PREFIX}alive"
    running.mkdir()
    program_cache.tidy(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "d.pt2", "d.constants", "a.pt2", "a.constants", "b.kernels.json", running.name,
    }  # fmt: skip
