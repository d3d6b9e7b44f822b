"""The command that mends a finding."""

from specbench.precision.findings import DIFFERS, Finding

FINDING = Finding(DIFFERS, "cloud.dtype", "they differ", settings=("cloud.dtype=float32",))


def test_a_mended_command_sets_each_key_once():
    words = ["check-dtype", "--set", "edge.dtype=float32", "--set", "cloud.dtype=bfloat16"]
    assert FINDING.mend(words) == "specbench check-dtype --set edge.dtype=float32 --set cloud.dtype=float32"


def test_what_a_command_names_beside_settings_stays():
    assert FINDING.mend(["run", "speculative"]) == "specbench run speculative --set cloud.dtype=float32"
