"""`specbench report` on real runs of tiny models, and its page in a real browser."""

import json
import os
import shutil
import sys

import pytest
import warm
import yaml
from pages import EVIL, evil_run

from specbench.render.report.page import page as page_of
from specbench.stats.report import report

CHROMIUM = shutil.which("chromium")
PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    """A run of three methods over prompts that hold markup, in `runs`, its page, and one of markup alone."""
    folder = tmp_path_factory.mktemp("report")
    rows = [
        {"question_id": f"{index}{EVIL}", "category": f"c{index % 2}{EVIL}", "turns": [f"{index} {EVIL}"]}
        for index in range(12)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    profile = {
        "edge": {"model": str(models / "draft")},
        "cloud": {"model": str(models / "target"), "device": "cpu"},
        "engine": {"kind": "eager"},
        "workload": {"prompts": str(folder / "prompts.jsonl"), "limit": 12, "max_new_tokens": 6, "warmup": 0},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(profile))
    for words in (
        ["run", "speculative", "edge_baseline", "--profile", "tiny.yaml"],
        ["report", "--charts", "charts"],
    ):
        warm.run(
            [sys.executable, "-c", "from specbench.cli import main; main()", *words],
            cwd=folder, check=True, capture_output=True, timeout=300,
            env={**os.environ, "SPECBENCH_RUNS": str(folder / "runs"), "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    (folder / "evil.html").write_text(page_of(report([evil_run()])), encoding="utf-8")
    return folder


@pytest.fixture
def reporting(specbench, folder, monkeypatch):
    """The command on that run."""
    monkeypatch.setenv("SPECBENCH_RUNS", str(folder / "runs"))
    monkeypatch.chdir(folder)
    return specbench


def test_the_page_shows_the_run_and_what_was_asked(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "speculative (greedy, lossless)" in text
    assert "specbench run speculative edge_baseline --profile tiny.yaml" in text
    assert "&lt;/script&gt;" in text
    assert "<script" not in text


STARTS = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF", ".csv": b"method,"}


def test_every_chart_is_written_as_picture_and_figures(folder):
    names = sorted(path.name for path in (folder / "charts").iterdir())
    stems = {name.partition(".")[0] for name in names}
    assert {stem for stem in stems if not stem.startswith("memory-")} == {
        "speedup", "speedup-categories", "ttft", "tpot", "acceptance",
        "acceptance-categories", "time", "ceiling",
    }  # fmt: skip
    assert len(names) == len(STARTS) * len(stems) == len(STARTS) * 9
    for path in (folder / "charts").iterdir():
        start = STARTS[path.suffix]
        assert path.read_bytes().startswith(start)
        assert b"var(--" not in path.read_bytes()


def test_other_formats_go_to_stdout_alone(reporting):
    markdown = reporting("report", "--format", "md")
    assert markdown.out.startswith("# tiny\n")
    assert reporting("report", "--format", "csv").out.startswith("category,method,")
    document = json.loads(reporting("report", "--format", "json").out)
    assert document["methods"].keys() == {"speculative", "edge_baseline", "cloud_optimized_baseline"}
    assert {row["held"] for row in document["report"]["held"]} == {"equal", "differs on purpose"}


def test_compare_writes_the_same_page_beside_its_table(reporting, folder, tmp_path):
    done = reporting("compare", "--html", tmp_path / "page.html")
    assert done.code == 0
    assert "speculative" in done.out
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == (folder / "report.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("missing", ["altair", "jinja2", "vl_convert"])
def test_a_missing_extra_is_one_sentence_with_the_way_out(reporting, monkeypatch, missing, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    done = reporting("report", "--out", tmp_path / "page.html")
    assert done.code == 2
    assert f"need {missing}, which is not installed" in done.err
    assert "pip install 'specbench[report]'" in done.err
    assert reporting("report", "--format", "md").code == 0


@pytest.mark.parametrize("words", [("--out", "no/such/folder/page.html"), ("--format", "md", "--out", ".")])
def test_a_file_that_cannot_be_written_is_named(reporting, words):
    done = reporting("report", *words)
    assert done.code == 5
    assert f"{words[-1]} cannot be written" in done.err


def test_charts_are_of_the_width_and_methods_that_are_asked_for(reporting, tmp_path):
    words = ("report", "--format", "csv", "--charts", tmp_path / "figures")
    assert reporting(*words, "--chart-width-mm", "84", "--methods", "speculative").code == 0
    assert (
        'width="84.' in (tmp_path / "figures" / "tpot.svg").read_text()
        or 'width="83.' in (tmp_path / "figures" / "tpot.svg").read_text()
    )
    assert "edge_baseline" not in (tmp_path / "figures" / "tpot.csv").read_text()
    for more, told in (
        (("--methods", "speculate"), "no method 'speculate' in this report"),
        (("--chart-width-mm", "8"), "is not between 60 and 400"),
    ):
        done = reporting(*words, *more)
        assert (done.code, told in done.err) == (2, True)
    done = reporting("report", "--format", "csv", "--methods", "speculative")
    assert (done.code, "--methods has no effect without --charts" in done.err) == (2, True)


def test_charts_that_cannot_be_written_are_named(reporting, tmp_path):
    (tmp_path / "file").write_text("")
    done = reporting("report", "--format", "csv", "--charts", tmp_path / "file")
    assert done.code == 5
    assert "the charts cannot be written" in done.err


def test_an_unknown_run_or_format_is_refused(reporting):
    assert "there is no run 'nothing'" in reporting("report", "nothing").err
    assert reporting("report", "--format", "docx").code == 2


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(params=["report.html", "evil.html"])
def visit(browser, folder, request):
    """Open a page and collect all that must not happen."""
    opened = []

    def call(**options):
        context = browser.new_context(**options)
        opened.append(context)
        tab, trouble = context.new_page(), []
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        address = (folder / request.param).as_uri()
        tab.on("request", lambda asked: trouble.append(asked.url) if asked.url != address else None)
        tab.goto(address)
        return tab, trouble

    yield call
    for context in opened:
        context.close()


def overflow(tab):
    return tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def color(tab, selector, name):
    return tab.evaluate(f"getComputedStyle(document.querySelector('{selector}'))['{name}']")


@pytest.mark.parametrize("options", [{}, PHONE, {"color_scheme": "dark"}, {"java_script_enabled": False}],
                         ids=["desktop", "phone", "dark", "no script"])  # fmt: skip
def test_every_chart_is_drawn_without_an_error_or_a_request(visit, options):
    tab, trouble = visit(**options)
    for summary in tab.locator("summary").all():
        summary.click()
    figures = tab.locator("figure").all()
    assert len(figures) in (7, 9), "with more than one category, they have charts of their own"
    for figure in figures:
        (chart,) = [svg for svg in figure.locator("svg").all() if svg.is_visible()]
        box = chart.bounding_box()
        assert box["width"] > 300
        assert box["height"] > 60
        assert chart.locator("title").count() > 0
    assert trouble == []


@pytest.fixture(scope="module")
def map_of_markup(tmp_path_factory):
    """The page of a grid whose values hold markup."""
    from specbench.forecast.grid import Row
    from specbench.render.report.maps import map_page

    rows = []
    for rtt_ms, speedup in ((0, 1.8), (20, 1.1), (80, 0.6)):
        for model in ("a", EVIL):
            condition = {"link.rtt_ms": rtt_ms, "edge.model": model}
            rows.append(Row("cloud_optimized_baseline", None, condition, 1.0, 20.0, 20.0, 1.0, None, None, 0))
            rows.append(Row("speculative", 3, condition, 1.0, 9.0, 9.0, speedup, 2.0, 0.5, 0))
    path = tmp_path_factory.mktemp("map") / "map.html"
    path.write_text(map_page(rows, f"a sweep {EVIL}"), encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [{}, PHONE, {"color_scheme": "dark"}, {"java_script_enabled": False}],
                         ids=["desktop", "phone", "dark", "no script"])  # fmt: skip
def test_the_page_of_a_sweep_is_drawn_without_an_error_or_a_request(browser, map_of_markup, options):
    context, trouble = browser.new_context(**options), []
    tab = context.new_page()
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda asked: trouble.append(asked.url) if not asked.url.startswith("file:") else None)
    tab.goto(map_of_markup.as_uri())
    (chart,) = [svg for svg in tab.locator("figure svg").all() if svg.is_visible()]
    assert chart.bounding_box()["width"] > 300
    assert tab.locator("td.heat").count() == 2 * 6
    assert options.get("java_script_enabled") is False or overflow(tab) <= 0
    assert trouble == []
    context.close()


def test_the_answer_is_whole_on_the_first_screen(visit):
    tab, _ = visit(viewport={"width": 1280, "height": 900})
    for part in ("h1", ".answer figure", ".tiles", ".held"):
        box = tab.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 900, part
    assert tab.locator(".held p.good .sign").inner_text() == "✓"


@pytest.mark.parametrize("width", [320, 390, 700, 768, 1280])
def test_nothing_overflows_and_words_in_charts_stay_readable(visit, width):
    tab, _ = visit(viewport={"width": width, "height": 800})
    assert overflow(tab) <= 0
    shrunk = tab.evaluate(
        "[...document.querySelectorAll('figure svg')].filter(s => s.clientWidth)"
        ".map(s => s.clientWidth / s.viewBox.baseVal.width)"
    )
    assert min(shrunk) * 12 >= 9  # pixels of a label


def test_dark_is_dark_and_charts_follow(visit):
    light, dark = (visit(color_scheme=scheme)[0] for scheme in ("light", "dark"))
    assert color(light, "html", "backgroundColor") == "rgb(255, 255, 255)"
    assert color(dark, "html", "backgroundColor") == "rgb(19, 25, 34)"
    assert color(dark, "figure svg text", "fill") != color(light, "figure svg text", "fill")


def test_tables_can_be_read_without_scripts(visit):
    tab, _ = visit(java_script_enabled=False, **PHONE)
    for summary in tab.locator("summary").all():
        summary.click()
    tables = tab.locator("table").all()
    assert len(tables) >= 8
    assert all(table.is_visible() and table.locator("tbody tr").count() for table in tables)


def test_paper_is_white_and_holds_everything(visit):
    tab, _ = visit(color_scheme="dark", viewport={"width": 690, "height": 980})  # A4 within its margins
    tab.emulate_media(media="print")
    assert color(tab, "html", "backgroundColor") == "rgb(255, 255, 255)"
    assert overflow(tab) <= 0
    clipped = (
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).length"
    )
    assert tab.evaluate(clipped) == 0
    assert tab.pdf(format="A4").startswith(b"%PDF")
