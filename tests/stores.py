"""The runs that a command left in a test's folder."""

from specbench.results.store import RunStore


def stored(tmp_path, run_id=None):
    store = RunStore(tmp_path / "runs")
    return store.read(store.find(run_id))
