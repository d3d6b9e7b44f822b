"""Figures that are quoted come from bundles that lie in the repository, and follow from their rounds.

A quoted figure has a mark behind it, on its line: `<!-- claim: BUNDLE ID -->`, where BUNDLE is a file of
docs/bundles/ without its suffix. A mark behind a picture says that the picture shows the claim's figure.
"""

import re

import pytest
from repository import REPOSITORY

from specbench.evidence.bundle import read
from specbench.evidence.recheck import recheck

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FOLDER = REPOSITORY / "docs" / "bundles"
BUNDLES = sorted(FOLDER.glob("*.zip"))
MOST_BYTES = 5_000_000
MARK = re.compile(r"^(?P<text>.*?)<!-- claim: (?P<bundle>[\w.-]+) (?P<id>[\w.-]+) -->", re.MULTILINE)
FIGURE = re.compile(
    r"\b\d+\.\d+x|\b\d+(?:\.\d+)? (?:times (?:as|the)|tokens (?:a|per) second|tok/s|ms\b|joules)"
)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
FIRST_WITH_BUNDLES = "2026-12-01"
RESULTS = [page for page in (REPOSITORY / "docs" / "results").glob("2*.md") if page.stem >= FIRST_WITH_BUNDLES]


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_bundle_of_the_repository_holds(path):
    found = recheck(read(path))
    assert [each.in_words for each in found.differences] == []
    assert found.changed == ()


def test_they_are_small_together():
    assert sum(path.stat().st_size for path in BUNDLES) < MOST_BYTES


def claim_of(mark):
    claims = {claim.id: claim for claim in read(FOLDER / f"{mark['bundle']}.zip").claims}
    return claims[mark["id"]]


def shown(text):
    """The text before a mark; of a picture, what it shows."""
    picture = re.search(r"!\[[^\]]*\]\(([^)]+\.svg)\)\s*$", text)
    if not picture:
        return text
    drawn = (REPOSITORY / picture[1]).read_text(encoding="utf-8")
    return " ".join(
        re.sub(r"<[^>]+>|&#160;", " ", re.sub(r"<style.*?</style>", "", drawn, flags=re.DOTALL)).split()
    )


def agrees(claim, text):
    """Whether a text gives a claim's figure, and its interval where it gives one, as rounded there."""
    wanted = [claim.value, *(claim.interval or ())]
    if isinstance(claim.value, str):
        return claim.value in text
    for places in range(5):
        value, *ends = (f"{each:.{places}f}" for each in wanted)
        both = f"{value}x ({ends[0]} to {ends[1]})" if ends else value
        if re.search(rf"(?<![\d.]){re.escape(both)}(?![\d.]\d)", text):
            return True
        if not ends and re.search(rf"(?<![\d.]){100 * claim.value:.{places}f} %", text):
            return True
    return False


@pytest.mark.parametrize("mark", list(MARK.finditer(README)), ids=lambda mark: mark["id"])
def test_a_figure_of_the_readme_is_that_of_its_claim(mark):
    assert agrees(claim_of(mark), shown(mark["text"])), claim_of(mark).in_words


@pytest.mark.skipif(not BUNDLES, reason="docs/bundles is empty; docs/development.md says how it is filled")
def test_the_picture_of_a_run_shows_a_claim():
    shows = [mark["text"] for mark in MARK.finditer(README)]
    assert any("docs/pictures/run.svg" in text for text in shows)


def test_the_readme_quotes_no_figure_without_a_claim():
    """Times of set-up and sizes are no measurements of methods."""
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert [line for line in prose.splitlines() if FIGURE.search(line) and not MARK.search(line)] == []


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_a_page_of_results_names_a_bundle_or_says_why_it_has_none(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"\.\./bundles/([\w.-]+)\.zip", text)
    assert named or re.search(r"<!-- no bundle: .+ -->", text)
    assert [name for name in named if not (FOLDER / f"{name}.zip").exists()] == []


def test_marks_are_read_as_they_are_written():
    text = "It is 1.32x (1.15 to 1.52)<!-- claim: default speculative-speedup --> here."
    found = MARK.search(text)
    assert (found["bundle"], found["id"]) == ("default", "speculative-speedup")
    from specbench.evidence.claims import Claim

    claim = Claim("speculative-speedup", "", "", 1.3239, (1.151, 1.5249))
    assert agrees(claim, found["text"])
    assert not agrees(claim, "It is 1.33x (1.15 to 1.52)")
    assert not agrees(claim, "It is 1.32x (1.16 to 1.52)")
    assert agrees(Claim("a", "", "", 0.7312), "73 % of its tokens")
    drawn = shown("![What the terminal shows](docs/pictures/run.svg)")
    assert re.search(r"\d\.\d\dx \(\d\.\d\d to \d\.\d\d\)", drawn)
