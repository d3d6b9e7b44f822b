"""Switches of the arithmetic: read safely, set both ways, and judged. They belong to a whole process."""

import subprocess
import sys

import pytest
import torch

from specbench.precision import switches

MATMUL = "torch.backends.cuda.matmul.fp32_precision"
needs_newer_settings = pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="this torch has the older flags alone"
)


@pytest.fixture(autouse=True)
def _leave_the_process_exact():
    yield
    switches.configure(allow_tf32=False)
    torch.set_autocast_enabled("cpu", False)


ROUND_TRIP = """
import sys
from specbench.precision import switches

allow_tf32 = sys.argv[1] == "True"
switches.configure(allow_tf32)
values = switches.read()
assert switches.findings(values, allow_tf32) == [], switches.findings(values, allow_tf32)
assert switches.UNREADABLE not in values.values()
assert values["torch.backends.cuda.matmul.allow_tf32"] is allow_tf32
assert values["torch.backends.cudnn.allow_tf32"] is allow_tf32
assert values[switches.MATMUL_PRECISION] == ("high" if allow_tf32 else "highest")
assert switches.findings(values, not allow_tf32) != []
"""


@pytest.mark.parametrize("allow_tf32", [False, True])
def test_what_is_set_is_what_is_read_by_the_older_names_and_the_newer(allow_tf32):
    """In a process of its own, as a run has one: what other tests leave in the libraries is not theirs."""
    done = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, str(allow_tf32)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@needs_newer_settings
def test_settings_that_contradict_each_other_are_read_without_an_error_and_unknown():
    switches.configure(allow_tf32=False)
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    with pytest.raises(RuntimeError):
        _ = torch.backends.cuda.matmul.allow_tf32
    values = switches.read()
    assert values["torch.backends.cuda.matmul.allow_tf32"] == switches.UNREADABLE
    verdicts = {finding.subject: finding.verdict for finding in switches.findings(values, False)}
    assert verdicts["torch.backends.cuda.matmul.allow_tf32"] == "unknown"
    assert verdicts[switches.MATMUL_PRECISION] == "differs"


@pytest.mark.parametrize(
    ("flip", "first"),
    [
        ("torch.backends.cuda.matmul.allow_tf32 = True", MATMUL),
        ("torch.backends.cudnn.conv.fp32_precision = 'tf32'", "torch.backends.cudnn.conv.fp32_precision"),
        ("torch.backends.mkldnn.matmul.fp32_precision = 'bf16'", "torch.backends.mkldnn.matmul.fp32_precision"),
        ("torch.backends.fp32_precision = 'tf32'", None),
        ("torch.set_float32_matmul_precision('medium')", MATMUL),
        ("torch.set_autocast_enabled('cpu', True)", "torch.is_autocast_enabled('cpu')"),
    ],
)
@needs_newer_settings
def test_every_way_to_loosen_the_arithmetic_is_found(flip, first):
    switches.configure(allow_tf32=False)
    before = switches.read()
    exec(flip, {"torch": torch})
    after = switches.read()
    changed = list(switches.changes(before, after))
    assert changed
    assert first in (None, changed[0])
    assert "differs" in {finding.verdict for finding in switches.findings(after, False)}


def test_an_environment_variable_that_loosens_the_libraries_below_torch_is_found(monkeypatch):
    switches.configure(allow_tf32=False)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    (finding,) = switches.findings(switches.read(), False)
    assert finding.subject == "environment ONEDNN_DEFAULT_FPMATH_MODE"
    assert finding.mend(["check-dtype"]) == "env -u ONEDNN_DEFAULT_FPMATH_MODE specbench check-dtype"
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT")
    assert switches.findings(switches.read(), False) == []


def test_what_another_torch_lacks_is_left_out():
    assert "torch.backends.no_such_thing.allow_tf32" not in switches.read()
    with pytest.raises(AttributeError):
        switches._reader(torch, "torch.backends.no_such_thing.allow_tf32")


@pytest.mark.parametrize(
    "flip",
    [
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.cudnn.allow_tf32 = True",
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
        "torch.backends.cuda.enable_flash_sdp(not torch.backends.cuda.flash_sdp_enabled())",
        "torch.set_autocast_enabled('cpu', True)",
        "torch.set_default_dtype(torch.float64)",
    ],
)
@needs_newer_settings
def test_a_glance_sees_what_reading_every_switch_does(flip):
    switches.configure(allow_tf32=False)
    before, read = switches.glance(), switches.read()
    assert switches.glance() == before
    flash = torch.backends.cuda.flash_sdp_enabled()
    try:
        exec(flip, {"torch": torch})
        assert switches.glance() != before
        assert switches.read() != read
    finally:
        torch.backends.cuda.enable_flash_sdp(flash)
        torch.set_default_dtype(torch.float32)
