"""Rotary positions in a compiled pass: the numbers of the model's own, without buffers for halves."""

import pytest
import torch
from torch import nn

from specbench.engine import kernels
from specbench.engine.compiled.rotations import simplify_rotations

HALVED = torch.ops.aten.cat.default


@pytest.fixture(scope="module", autouse=True)
def _kernels():
    kernels.load()


def exported(module, *inputs):
    width = torch.export.Dim("width", min=1, max=64)
    return torch.export.export(module, inputs, dynamic_shapes=[{2: width}] * len(inputs), strict=False)


def calls(program):
    return [node.target for node in program.graph.nodes if node.op == "call_function"]


def rotate_half(x):
    first, last = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat((-last, first), dim=-1)


class Turned(nn.Module):
    """Every row by its own angle, as in Llama."""

    def forward(self, x, angles):
        return x * angles.cos() + rotate_half(x) * angles.sin()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_turned_vector_has_the_bits_that_it_had(dtype):
    x, angles = torch.randn(1, 3, 5, 64, dtype=dtype), torch.randn(1, 1, 5, 64, dtype=dtype)
    program = exported(Turned(), x, angles)
    assert HALVED in calls(program)
    simplify_rotations(program)
    assert HALVED not in calls(program)
    assert calls(program).count(torch.ops.specbench.stored.default) == 2
    for width in (1, 5):
        given = x[:, :, :width], angles[:, :, :width]
        assert torch.equal(program.module()(*given), Turned()(*given))


class Swapped(nn.Module):
    """Halves that are exchanged, and none of them negative."""

    def forward(self, x):
        return torch.cat((x[..., 32:], x[..., :32]), dim=-1)


class Uneven(nn.Module):
    """A part that is no half."""

    def forward(self, x):
        return torch.cat((-x[..., 16:], x[..., :16]), dim=-1)


class Other(nn.Module):
    """Halves of two vectors."""

    def forward(self, x):
        return torch.cat((-x[..., 32:], (x + 1)[..., :32]), dim=-1)


class Rows(nn.Module):
    """Halves of another dimension."""

    def forward(self, x):
        return torch.cat((-x[:, 2:], x[:, :2]), dim=1)


@pytest.mark.parametrize("kind", [Swapped, Uneven, Other, Rows])
def test_what_is_no_rotation_is_left_alone(kind):
    x = torch.randn(1, 4, 5, 64)
    program = exported(kind(), x)
    before = calls(program)
    simplify_rotations(program)
    assert calls(program) == before
    assert torch.equal(program.module()(x), kind()(x))
