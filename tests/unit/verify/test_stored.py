"""Stored verifications, as `compare` and `report` read them."""

import csv
import io
import json

import pytest
from builders import generation, manifest
from planted import QUESTIONS

from specbench.errors import ExitCode
from specbench.results.store import RunStore
from specbench.servers.answers import Facts
from specbench.verify import store
from specbench.verify.records import Result


@pytest.fixture
def stored(serve, specbench, tmp_path):
    """Two stored verifications: of an honest server, and of one with a fault; as JSON."""
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"question_id": each.prompt_id, "category": "c", "turns": each.turns} for each in QUESTIONS]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reference = serve(drafting=False).url
    given = ("--against", reference, "--prompts", prompts, "--max-new-tokens", 24, "--json")
    return [specbench("verify", serve(fault).url, *given).json for fault in (None, "bonus_dropped")]


def test_compare_shows_one_as_it_was_printed_and_several_side_by_side(stored, specbench):
    honest, faulty = (each["verify_id"] for each in stored)
    assert specbench("compare", honest, "--json").json == stored[0]
    alone = specbench("compare", honest).out
    assert alone == specbench("verify", "--show", honest).out
    both = specbench("compare", honest, faulty)
    assert both.code == 0
    assert both.out.index(honest) < both.out.index(faulty)
    assert stored[1]["statement"] in " ".join(both.out.split())
    assert specbench("compare", honest, faulty, "--json").json == stored


def test_report_writes_a_page_and_the_other_formats(stored, specbench, tmp_path):
    honest, faulty = (each["verify_id"] for each in stored)
    page = tmp_path / "v.html"
    assert specbench("report", faulty, "--out", page).code == 0
    text = page.read_text()
    assert "leaves out a token" in text
    assert text.index("does not say what") < text.index("One request at a time")
    assert specbench("compare", honest, faulty, "--html", page).code == 0
    assert "Verifications side by side" in page.read_text()
    markdown = specbench("report", faulty, "--format", "md").out
    assert "| prompt | verdict |" in markdown
    rows = list(csv.DictReader(io.StringIO(specbench("report", honest, faulty, "--format", "csv").out)))
    assert len(rows) == 2 * len(QUESTIONS)
    assert {row["verdict"] for row in rows if row["verify_id"] == honest} == {"same"}
    assert json.loads(specbench("report", honest, "--format", "json").out) == stored[0]


def test_runs_and_verifications_are_not_compared(stored, specbench):
    done = specbench("compare", stored[0]["verify_id"], "a-run")
    assert done.code == ExitCode.USAGE
    assert "a-run is no verification" in done.err
    refused = specbench("report", stored[0]["verify_id"], "--charts", "figures")
    assert refused.code == ExitCode.USAGE


@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_name_that_means_a_verification_and_a_run_is_refused_with_both(specbench, tmp_path, command):
    runs = tmp_path / "runs"
    ids = ("20260101-101010-000001", "20260202-101010-000001")
    facts = Facts("http://a", "llama.cpp", "m", None, True, 0, False)
    store.write(runs, Result(ids[0], "2026-01-01", facts, None, {}))
    RunStore(runs).create(manifest(ids[1])).append([generation("1")])
    done = specbench(command, "000001", "--runs-dir", runs)
    assert done.code == ExitCode.STORE
    assert f"'000001' means verifications ({ids[0]}) and runs ({ids[1]})" in " ".join(done.err.split())
    assert store.named(runs, [ids[1]]) == []
    assert store.named(runs, ["20260101"]) == [store.read(runs, ids[0])]
