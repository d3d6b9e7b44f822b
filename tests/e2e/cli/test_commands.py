"""Every other command, what it prints, and what bad input gets."""

import json
import subprocess
import sys

import pytest
import yaml

from specbench.benchmark.job import new_job
from specbench.cluster import submission as submissions
from specbench.cluster.submission import Point, Submission
from specbench.errors import ExitCode
from specbench.profile import load_profile
from specbench.results.store import RunStore


def test_help_needs_no_torch(specbench_process):
    script = (
        "import sys; sys.argv = ['specbench', '--help']\n"
        "from specbench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'scipy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert "check-dtype" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("group", ["submit", "link"])
def test_a_group_without_a_command_shows_its_help_and_no_error(specbench, group):
    outcome = specbench(group)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Commands" in outcome.out


WITHOUT_MODEL = (
    ["profiles"],
    ["profiles", "show", "default"],
    ["plugins"],
    ["models"],
    ["check-dtype"],
    ["check-dtype", "--all"],
    ["check-dtype", "--run", "nothing"],
    ["compare", "--help"],
    ["report", "--help"],
)


@pytest.fixture(scope="module")
def imported_without_model():
    return imported_by(WITHOUT_MODEL)


@pytest.mark.parametrize("at", range(len(WITHOUT_MODEL)), ids=lambda at: " ".join(WITHOUT_MODEL[at]))
def test_commands_that_need_no_model_import_no_torch(imported_without_model, at):
    code = 0 if "nothing" not in WITHOUT_MODEL[at] else ExitCode.STORE
    assert imported_without_model[at] == [code, []]


def imported_by(commands, heavy=("torch", "transformers", "scipy")):
    """The exit status of commands, one after the other in a new process, and what of `heavy` is there then."""
    script = (
        "import json, sys\n"
        "from specbench.cli import main\n"
        f"for command in {[*commands]!r}:\n"
        "    sys.argv, code = ['specbench', *command], 0\n"
        "    try: main()\n"
        "    except SystemExit as error: code = error.code\n"
        f"    print(json.dumps([int(code or 0), sorted({{*{heavy!r}}} & set(sys.modules))]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]


def test_commands_about_what_is_stored_import_no_torch(specbench, profile, tmp_path):
    """Statistics take scipy; no figure takes a model."""
    trace, costs = str(tmp_path / "trace.json"), tmp_path / "costs.yaml"
    assert specbench("run", "speculative", "--profile", profile()).code == 0
    assert specbench("trace", "--out", trace, "--profile", profile()).code == 0
    costs.write_text("draft: {step_ms: 2.0}\ntarget: {verify_ms: {1: 20.0}, prefill_ms: {1: 5.0}}\n")
    place = ["--runs-dir", str(tmp_path / "runs")]
    store = RunStore(tmp_path / "runs")
    asked = Submission("s1", "run", "local", (Point("s1-0", {}),), 1, {})
    submissions.prepare(store, asked, [new_job(store, load_profile("default"), "default", ["speculative"])])
    commands = (
        ["compare", store.find(None), *place],
        ["report", store.find(None), "--format", "md", *place],
        ["plan", "--acceptance", "0.8,0.7"],
        ["plan", "--trace", trace, "--costs", str(costs)],
        ["plan", "--run", store.find(None), *place],
        ["replay", trace, "--costs", str(costs)],
        ["submit", "status", "s1", *place],
    )
    assert imported_by(commands, ("torch", "transformers")) == [[0, []]] * len(commands)


def test_profiles_show_prints_a_profile_that_can_be_used(specbench, tmp_path):
    shown = specbench("profiles", "show", "memory_optimized")
    path = tmp_path / "mine.yaml"
    path.write_text(shown.out)
    assert specbench("profiles", "show", path).out == shown.out
    assert yaml.safe_load(shown.out)["cloud"]["device_map"] == "auto"


def test_plugins_lists_methods_and_shows_a_broken_one_with_its_error(specbench, tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name")
    done = specbench("plugins", "--plugin", tmp_path / "bad.py")
    assert done.code == 0
    assert "speculative" in done.out
    assert "ModuleNotFoundError" in done.out


def test_check_dtype_of_all_profiles_agrees(specbench):
    done = specbench("check-dtype", "--all", "--json")
    assert done.code == 0
    assert done.json["ok"] is True
    assert {entry["profile"] for entry in done.json["profiles"]} >= {"default", "memory_optimized"}
    rows = {row["method"]: row for row in done.json["profiles"][0]["methods"]}
    assert rows["speculative"] == {
        "method": "speculative",
        "edge": {"dtype": "float32", "device": "cpu", "ranks": 1},
        "cloud": {"dtype": "float32", "device": "auto", "ranks": 1},
        "changes": {},
        "verdict": "ok",
        "ok": True,
    }
    assert rows["edge_baseline"]["cloud"] is None


def test_check_dtype_exits_one_when_edge_and_cloud_differ(specbench):
    done = specbench("check-dtype", "--profile", "default", "--set", "cloud.dtype=float16", "--json")
    assert done.code == 1
    assert done.json["ok"] is False
    (report,) = done.json["profiles"]
    assert report["problems"] == [
        "edge.dtype is float32 and cloud.dtype is float16, but precision.parity: edge_cloud requires one "
        "precision"
    ]
    both = {row["method"] for row in report["methods"] if row["edge"] and row["cloud"]}
    assert {row["method"] for row in report["methods"] if not row["ok"]} == both >= {"speculative"}
    table = specbench("check-dtype", "--set", "cloud.dtype=float16")
    assert table.code == 1
    assert "differs" in table.out


def test_check_dtype_load_looks_at_every_tensor(specbench, profile):
    done = specbench("check-dtype", "--profile", profile(), "--load", "--json")
    assert done.code == 0
    edge, cloud = done.json["profiles"][0]["audits"]
    assert (edge["role"], cloud["role"]) == ("edge", "cloud")
    assert cloud["parameters"][0]["dtype"] == "float32"
    assert cloud["cache"][0]["tensors"] == 4
    assert cloud["stored"] == ["F32 x21"]


def test_check_dtype_load_names_the_first_tensor_that_differs(specbench, profile):
    done = specbench("check-dtype", "--profile", profile(cloud={"dtype": "bfloat16"}), "--load")
    assert done.code == 1
    assert "model.embed_tokens.weight is bfloat16, and the edge is float32" in done.out


def test_models_lists_the_embedded_ones(specbench, monkeypatch, tmp_path):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    assert "embedded:smollm2-135m-instruct" in specbench("models", "list").out


def test_models_pull_says_where_a_shipped_draft_lies(specbench):
    for name in ("smollm2-135m-draft", "embedded:smollm2-135m-draft"):
        done = specbench("models", "pull", name)
        assert (done.code, "shipped with the package" in done.err) == (0, True), done.err
        assert done.out.startswith("embedded:smollm2-135m-draft: /")


@pytest.mark.parametrize("group", ["link", "submit"])
def test_a_command_that_has_others_below_it_shows_its_help_as_the_whole_program_does(specbench, group):
    assert specbench().code == 0
    done = specbench(group)
    assert (done.code, done.err) == (0, "")
    assert f"{group} [OPTIONS] COMMAND [ARGS]..." in done.out


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["run"], "run [OPTIONS] [METHOD]..."),
        (["sweep"], "sweep [OPTIONS] [METHOD]..."),
        (["compare"], "compare [OPTIONS] [RUN]..."),
        (["report"], "report [OPTIONS] [RUN]..."),
        (["submit", "status"], "submit status [OPTIONS] [SUBMISSION]"),
        (["submit", "run"], "submit run METHOD... [OPTIONS of 'specbench run']"),
        (["submit", "sweep"], "submit sweep METHOD... [OPTIONS of 'specbench sweep']"),
    ],
)
def test_help_shows_each_argument_once(specbench, words, usage):
    assert f"{usage} " in " ".join(specbench(*words, "--help").out.split())


def test_a_page_that_cannot_be_written_is_a_matter_of_storage(specbench, profile, tmp_path):
    assert specbench("run", "cloud_baseline", "--profile", profile(), "--only", "--limit", 1).code == 0
    for words in (("--out", tmp_path), ("--out", tmp_path / "page.html", "--charts", profile())):
        done = specbench("report", *words)
        assert done.code == ExitCode.STORE
        assert "cannot be written" in done.err


def test_version_and_debug_exist(specbench):
    assert specbench("--version").out.startswith("specbench ")


def test_an_internal_error_is_one_line_and_debug_shows_the_rest(specbench, monkeypatch):
    def broken(files=()):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("specbench.registry.discover", broken)
    done = specbench("plugins")
    assert done.code == 70
    assert "internal error: ZeroDivisionError: oops" in done.err
    assert "Traceback" not in done.err
    with pytest.raises(ZeroDivisionError):
        specbench("--debug", "plugins")
