"""The documentation site builds without a warning, and asks no other host."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from repository import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Loaded(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        is_shown = tag in ("script", "img", "iframe", "source") or "stylesheet" in (known.get("rel") or "")
        if is_shown or "preconnect" in (known.get("rel") or "") or "icon" in (known.get("rel") or ""):
            self.addresses += [known[name] for name in ("src", "href") if known.get(name)]


def test_it_builds_and_asks_no_other_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        assert [each for each in loaded.addresses if re.match(r"(https?:)?//", each)] == [], page.name


def test_every_kind_of_page_is_on_it(site):
    for kind in ("tutorial", "how-to", "reference", "explanation", "results"):
        assert list((site / kind).glob("*.html")), kind
