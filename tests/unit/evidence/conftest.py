"""A store with a finished run of two methods and twelve prompts, and a bundle of it."""

import pytest
from bundles import add_run

from specbench.evidence import archive
from specbench.evidence.bundle import bundle
from specbench.results.store import RunStore


@pytest.fixture
def store(tmp_path):
    found = RunStore(tmp_path / "runs")
    add_run(found)
    return found


@pytest.fixture
def bundled(store, tmp_path):
    """A function that writes a bundle, with some of its files changed."""

    def write(name="b.zip", change=lambda files: files, **options):
        files = bundle(store, store.ids(), **options)
        archive.write(tmp_path / name, change(dict(files)))
        return tmp_path / name

    return write
