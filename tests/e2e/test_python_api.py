"""`from specbench import run, compare, sweep`: the same runs as the command line, in a script or a notebook."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from builders import CRASHING
from repository import REPOSITORY

import specbench as package
from specbench import Prompt, SpecbenchError, compare, load_profile, run, sweep
from specbench.atomic import write_json
from specbench.benchmark import child_process
from specbench.benchmark.job import new_job
from specbench.benchmark.observer import Unobserved
from specbench.results.store import RunStore

PAGE = REPOSITORY / "docs" / "reference" / "python-api.md"


@pytest.fixture
def tiny(profile):
    return load_profile(str(profile(workload={"limit": 2, "max_new_tokens": 6, "warmup": 0})))


def test_every_public_name_is_there_and_importing_the_package_imports_no_torch():
    program = (
        "import sys, specbench\n"
        "from specbench import *\n"
        "assert set(specbench.__all__) <= set(dir(specbench)) | set(globals()), specbench.__all__\n"
        "print([name for name in ('torch', 'transformers', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    stub = (Path(package.__file__).parent / "__init__.pyi").read_text(encoding="utf-8")
    assert set(re.findall(r"import (\w+) as", stub)) | {"__version__"} == set(package.__all__)


def test_the_example_of_the_docs_runs(tiny_profiles, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    out = capsys.readouterr().out
    assert "speedup_vs_control" in out
    assert "draft_length" in out
    assert len(RunStore(tmp_path / "runs").ids()) == 1 + 2


def test_a_run_has_the_figures_that_compare_prints_twice_in_one_process(tiny, specbench, tmp_path):
    for methods in (["speculative"], ["cloud-baseline", "edge_baseline"]):
        measured = run(tiny, methods, runs_dir=tmp_path / "runs")
        assert measured.manifest.status == "finished"
        shown = specbench("compare", measured.manifest.run_id, "--json").json["methods"]
        comparison = compare([measured])
        rows = {row.pop("method"): row for row in (asdict(each) for each in comparison.methods)}
        assert json.loads(json.dumps(rows)) == shown
        frame = comparison.to_frame().set_index("method")
        assert {name: row["tpot_ms"] for name, row in shown.items()} == frame["tpot_ms"].to_dict()
        answers = measured.to_frame()
        assert list(answers["tokens"]) == [len(record.tokens) for record in measured.generations]
        assert set(answers["run_id"]) == {measured.manifest.run_id}


def test_without_pandas_a_frame_is_one_error_with_a_hint(monkeypatch):
    from builders import generation, manifest

    from specbench.results.records import Run

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SpecbenchError, match="needs pandas") as refused:
        Run(manifest(), (generation(),)).to_frame()
    assert refused.value.hint == "pip install 'specbench[notebook]'"


def test_prompts_are_texts_or_turns_and_a_run_of_them_goes_on_by_its_id_alone(
    tiny, specbench, tmp_path, monkeypatch
):
    asked = ["hello there", Prompt("two", "talk", ("hi", "and now?"))]
    measured = run(tiny, ["speculative"], prompts=asked, only=True, runs_dir=tmp_path / "runs")
    assert [(r.prompt_id, r.turn) for r in measured.generations] == [("1", 0), ("two", 0), ("two", 1)]
    run_id = measured.manifest.run_id
    (tmp_path / "runs" / run_id / "generations.jsonl").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = run(resume=run_id, runs_dir=tmp_path / "runs")
    assert [r.tokens for r in again.generations] == [r.tokens for r in measured.generations]
    assert list(specbench("run", "--resume", run_id, "--json").json["methods"]) == ["speculative"]


def test_a_run_with_relative_paths_goes_on_from_another_folder(
    specbench, profile, models, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("models").symlink_to(models)
    Path("mine.py").write_text(CRASHING.format(memory=False).replace("== 3", "== 99"))
    Path("q.jsonl").write_text('{"question_id": 1, "category": "c", "turns": ["hi"]}')
    path = profile(cloud={"model": "./models/target"}, edge={"model": "./models/draft"})
    (tmp_path / "here" / "relative.yaml").write_text(path.read_text())
    words = ("run", "crashing", "--profile", "relative.yaml", "--plugin", "mine.py", "--prompts", "q.jsonl")
    assert specbench(*words, "--tune-on", "missing").code == 2
    done = specbench(*words, "--json")
    assert done.code == 0, done.err
    (run_id,) = done.json["runs"]
    (tmp_path / "runs" / run_id / "generations.jsonl").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = specbench("run", "--resume", run_id, "--json")
    assert again.code == 0, again.err
    assert list(again.json["methods"]) == list(done.json["methods"])
    other = specbench("run", "--resume", run_id, "--max-new-tokens", 9)
    assert (other.code, "workload.max_new_tokens was 12, and is 9" in other.err) == (5, True)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ({"methods": ["speculatve"]}, "there is no method 'speculatve'", 2),
        ({"methods": []}, "missing argument 'METHOD'", 2),
        ({"methods": ["speculative"], "prompts": [" "]}, "a turn is empty or not text", 2),
        ({"methods": ["speculative"], "prompts": []}, "prompts is empty", 2),
        ({"methods": ["speculative"], "plugins": ["absent.py"]}, "absent.py does not exist", 2),
        ({"profile": "defalt", "methods": ["speculative"]}, "there is no profile 'defalt'", 3),
        ({"resume": "nothing"}, "there is no run 'nothing'", 5),
    ],
)
def test_what_is_wrong_raises_before_anything_is_stored(tiny, tmp_path, arguments, message, code):
    with pytest.raises(SpecbenchError, match=message) as refused:
        run(**{"profile": tiny, "runs_dir": tmp_path / "runs", **arguments})
    assert refused.value.exit_code == code
    assert RunStore(tmp_path / "runs").ids() == []


def test_a_method_that_fails_is_in_the_run_and_raises_nothing(tiny, tmp_path):
    plugin = tmp_path / "crashing.py"
    plugin.write_text(CRASHING.format(memory=False))
    measured = run(tiny, ["crashing"], plugins=[plugin], runs_dir=tmp_path / "runs")
    assert [failure.method for failure in measured.manifest.failures] == ["crashing"]


class Listening(Unobserved):
    def __init__(self):
        self.events = []

    def started(self, progress, monitor):
        self.events.append(("started", tuple(part.prompts_total for part in progress)))

    def advanced(self, progress):
        self.events.append((getattr(progress, "method", "sweep"), getattr(progress, "prompts_done", None)))

    def close(self):
        self.events.append(("closed", None))


def test_an_observer_hears_of_the_beginning_of_every_prompt_and_of_the_end(tiny, tmp_path):
    observer = Listening()
    run(tiny, ["speculative"], observer=observer, runs_dir=tmp_path / "runs")
    assert observer.events[0] == ("started", (2, 2))
    assert observer.events[-1] == ("closed", None)
    done = [each for each in dict.fromkeys(observer.events) if each[0] == "speculative"]
    assert done == [("speculative", 0), ("speculative", 1), ("speculative", 2)]


def test_a_sweep_gives_a_row_for_each_method_and_condition(tiny, tmp_path):
    observer = Listening()
    over = {"speculative.draft_length": [1, 2]}
    swept = sweep(tiny, ["speculative"], over, observer=observer, runs_dir=tmp_path / "runs")
    assert swept.failed == {}
    frame = swept.to_frame()
    assert list(frame[frame.method == "speculative"].draft_length) == [1, 2]
    assert len(frame) == 4
    assert ("sweep", None) in observer.events
    again = sweep(resume=swept.sweep.sweep_id, runs_dir=tmp_path / "runs")
    assert again.sweep.runs == swept.sweep.runs


def test_a_condition_of_a_sweep_that_fails_says_why_in_data(tiny, tmp_path):
    over = {"edge.model": [str(tmp_path / "absent")]}
    swept = sweep(tiny, ["speculative"], over, runs_dir=tmp_path / "runs")
    (ended,) = swept.failed.values()
    assert (ended.state, ended.code) == ("failed", 4)
    assert "absent" in ended.error
    assert swept.rows == []


def test_a_job_in_a_file_is_a_run_and_its_end_stands_beside_it(tiny, tmp_path):
    store, file = RunStore(tmp_path / "runs"), tmp_path / "job.json"
    job = new_job(store, tiny, "tiny", ["speculative"], only=True)
    ended = child_process.run_to_end(job, file)
    assert ended == child_process.Ended("done", 0)
    measured = store.read(job.run_id)
    assert (measured.manifest.status, measured.manifest.methods) == ("finished", ("speculative",))
    before = (tmp_path / "runs" / job.run_id / "generations.jsonl").read_bytes()
    assert child_process.run_to_end(job, file) == ended
    assert (tmp_path / "runs" / job.run_id / "generations.jsonl").read_bytes() == before


def test_a_job_that_cannot_begin_says_what_failed_and_what_to_do(specbench, tiny, tmp_path):
    file = tmp_path / "job.json"
    write_json(file, new_job(RunStore(tmp_path / "runs"), tiny, "tiny", ["speculatve"]))
    assert child_process.read_ended(file) is None
    done = specbench("job", file)
    assert done.code == 2
    message = "there is no method 'speculatve'"
    assert child_process.read_ended(file) == child_process.Ended(
        "failed", 2, message, "did you mean 'speculative'?"
    )
    file.write_text("{")
    assert (specbench("job", file).code, specbench("job", tmp_path / "absent.json").code) == (5, 5)


def test_a_process_that_leaves_no_word_can_go_on(tmp_path):
    assert child_process.end_of(tmp_path / "job.json", -9).state == "interrupted"
    assert child_process.end_of(tmp_path / "job.json", -9).code == 137
    assert os.listdir(tmp_path) == []
