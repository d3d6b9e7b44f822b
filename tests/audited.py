"""What an audit found, and the command that it offers."""

import shlex

from specbench.results.store import RunStore


def stored(tmp_path):
    store = RunStore(tmp_path / "runs")
    return store.read(store.find(None)).manifest


def offered(specbench, finding):
    """Run the command that a finding offers."""
    words = shlex.split(finding["mend"])
    assert words[0] == "specbench"
    return specbench(*words[1:])
