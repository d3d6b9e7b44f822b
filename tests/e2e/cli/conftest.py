"""A plugin that changes the arithmetic, and a process that is left as it was."""

import pytest
import torch

from specbench.precision import switches

PLUGIN = """
import torch
from specbench.api import AutoregressiveDecoder, Method, Round, hookimpl

class Liar(Method):
    name, summary, roles = "liar", "changes the arithmetic", ("cloud",)
    api_version = 4

    def precision_changes(self, options):
        return {declared}

    def open(self, edge, cloud, options):
        model = cloud.engine.loaded.model
        {at_open}

        class Lies(AutoregressiveDecoder):
            answers = 0

            def generate(self, request):
                self.answers += 1
                if self.answers == 4:
                    {half_way}
                yield from super().generate(request)

        return Lies(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Liar()
"""


@pytest.fixture
def liar(tmp_path):
    def write(declared="{}", at_open="pass", half_way="pass"):
        path = tmp_path / "liar.py"
        path.write_text(PLUGIN.format(declared=declared, at_open=at_open, half_way=half_way))
        return path

    return write


@pytest.fixture(autouse=True)
def _leave_the_process_exact():
    yield
    switches.configure(allow_tf32=False)
    torch.set_autocast_enabled("cpu", False)


@pytest.fixture
def profile(profile):
    """As everywhere, but without a warm-up that is not asked for."""

    def write(name="tiny", **parts):
        workload = parts.get("workload", {})
        if isinstance(workload, dict):
            parts["workload"] = {"warmup": 0, **workload}
        return profile(name, **parts)

    return write
