"""The CPU kernels: right, the same at every width and thread count, compiled once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from specbench.engine import kernels
from specbench.engine.kernels import build
from specbench.errors import SpecbenchError

pytestmark = pytest.mark.usefixtures("two_threads")  # shares of a product are divided among threads

EPSILON = torch.finfo(torch.float32).eps
SIZES = st.integers(1, 200)


@pytest.fixture(scope="module")
def ops():
    return kernels.load()


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rounding_bound(x, weight):
    """What any order of float32 additions may be off by: k roundings of magnitudes (Higham 2002, 3.5)."""
    return 2 * x.shape[-1] * EPSILON * linear(x.abs(), weight.abs()) + 1e-30


@given(rows=st.integers(1, 20), outputs=SIZES, inputs=SIZES, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_product_is_that_of_torch_within_rounding(rows, outputs, inputs, seed):
    ops = kernels.load()
    x, weight = numbers(rows, inputs, seed=seed), numbers(outputs, inputs, seed=seed + 1)
    assert ((ops.linear(x, weight) - linear(x, weight)).abs() <= rounding_bound(x, weight)).all()


@given(rows=st.integers(1, 20), outputs=SIZES, inputs=SIZES, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_an_int8_product_is_that_of_the_dequantised_weights(rows, outputs, inputs, seed):
    ops = kernels.load()
    x, quantised = (
        numbers(rows, inputs, seed=seed),
        kernels.quantize_int8(numbers(outputs, inputs, seed=seed + 1)),
    )
    weight = kernels.dequantize_int8(*quantised)
    assert ((ops.linear_int8(x, *quantised) - linear(x, weight)).abs() <= rounding_bound(x, weight)).all()


@given(rows=st.integers(1, 20), outputs=SIZES, groups=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_an_int4_product_is_that_of_the_dequantised_weights(rows, outputs, groups, seed):
    ops = kernels.load()
    weight = numbers(outputs, groups * kernels.GROUP, seed=seed + 1)
    x, quantised = numbers(rows, groups * kernels.GROUP, seed=seed), kernels.quantize_int4(weight)
    weight = kernels.dequantize_int4(*quantised)
    assert ((ops.linear_int4(x, *quantised) - linear(x, weight)).abs() <= rounding_bound(x, weight)).all()


def products(ops, inputs, outputs=131):
    """Each kind of product, as a function of x alone."""
    weight = numbers(outputs, inputs)  # odd: its last row is read alone
    eight = kernels.quantize_int8(weight)
    yield lambda x: ops.linear(x, weight)
    yield lambda x: ops.linear_int8(x, *eight)
    if inputs % kernels.GROUP == 0:
        four = kernels.quantize_int4(weight)
        yield lambda x: ops.linear_int4(x, *four)


@pytest.mark.parametrize("inputs", [7, 96, 576, 1537])
def test_every_row_is_bit_for_bit_the_same_at_every_width(ops, inputs):
    x = numbers(65, inputs, seed=5)
    for product in products(ops, inputs):
        alone = torch.stack([product(row) for row in x])
        for width in (*range(1, 18), 33, 64, 65):
            assert torch.equal(product(x[:width]), alone[:width])
            assert torch.equal(product(x[65 - width :]), alone[65 - width :])


@pytest.mark.parametrize("inputs", [7, 96, 576])
def test_rows_that_are_read_one_by_one_give_the_same_bits(ops, inputs):
    x, weight = numbers(5, inputs, seed=5), numbers(131, inputs)
    results = []
    for on in (False, True, False):
        ops.read_one_by_one(on)
        results.append([ops.linear(x[:width], weight) for width in range(1, 6)])
    for several, one, again in zip(*results, strict=True):
        assert torch.equal(several, one)
        assert torch.equal(several, again)


def test_every_row_is_bit_for_bit_the_same_with_more_threads_than_there_are_cores(ops):
    x, before = numbers(5, 576, seed=5), torch.get_num_threads()
    for product in products(ops, 576, outputs=1001):  # work enough for sixteen
        results = []
        for threads in (1, 2, 3, 4, 8, 16):
            torch.set_num_threads(threads)
            results.append(product(x))
        torch.set_num_threads(before)
        assert all(torch.equal(each, results[0]) for each in results)


@pytest.mark.parametrize("inputs", [96, 576])
def test_products_side_by_side_have_the_bits_of_each_alone(ops, inputs):
    weights = [numbers(outputs, inputs, seed=outputs) for outputs in (130, 1, 48, 700)]
    eights = list(zip(*map(kernels.quantize_int8, weights), strict=True))
    fours = list(zip(*map(kernels.quantize_int4, weights), strict=True))
    for rows in (1, 5, 17):
        x = numbers(rows, inputs, seed=5)
        alone = [ops.linear(x, weight) for weight in weights]
        assert torch.equal(ops.products(x, weights, [], [], [32] * 4), torch.cat(alone, -1))
        alone = [ops.linear_int8(x, *operands) for operands in zip(*eights, strict=True)]
        assert torch.equal(ops.products(x, *map(list, eights), [], []), torch.cat(alone, -1))
        alone = [ops.linear_int4(x, *operands) for operands in zip(*fours, strict=True)]
        assert torch.equal(ops.products(x, *map(list, fours), []), torch.cat(alone, -1))
    by_torch = torch.cat([linear(x, weight) for weight in weights], -1)
    assert torch.equal(ops.products(x, weights, [], [], [0] * 4), by_torch)


def test_leading_dimensions_strides_and_slices_of_rows_are_allowed(ops):
    weight, x = numbers(40, 48), numbers(2, 48, 3).transpose(1, 2)
    assert torch.equal(ops.linear(x, weight), ops.linear(x.reshape(6, 48), weight).view(2, 3, 40))
    assert torch.equal(ops.linear(x, weight[8:24]), ops.linear(x, weight)[..., 8:24])
    assert ops.linear(x[:, :0], weight).shape == (2, 0, 40)


def test_operands_that_do_not_fit_are_refused(ops):
    x, weight = numbers(2, 64), numbers(3, 64)
    for wrong in (weight[:, :32], weight.double(), weight.T, numbers(3, 65)):
        with pytest.raises(RuntimeError, match="weight"):
            ops.linear(x, wrong)
    eight, scales = kernels.quantize_int8(weight)
    with pytest.raises(RuntimeError, match="scales"):
        ops.linear_int8(x, eight, scales[:2])
    with pytest.raises(RuntimeError, match="every weight has"):
        ops.products(x, [weight, weight], [], [], [8])
    packed, scales, offsets = kernels.quantize_int4(weight)
    with pytest.raises(RuntimeError, match="scales and offsets"):
        ops.linear_int4(x, packed, scales, offsets.float())
    with pytest.raises(ValueError, match="groups of 32"):
        kernels.quantize_int4(numbers(3, 65))


def test_torch_compile_can_trace_them(ops):
    weight, x = numbers(24, 32), numbers(3, 32)

    def block(x):
        return torch.relu(ops.linear(x, weight)) + 1

    traced = torch.compile(block, fullgraph=True, backend="aot_eager")
    assert torch.equal(traced(x), block(x))


def test_quantised_weights_are_within_half_a_step():
    weight = numbers(20, 64)
    eight, scales = kernels.quantize_int8(weight)
    assert ((kernels.dequantize_int8(eight, scales) - weight).abs() <= scales.unsqueeze(1) * 0.501).all()
    packed, scales, offsets = kernels.quantize_int4(weight)
    step = scales.float().repeat_interleave(kernels.GROUP, dim=1)
    assert ((kernels.dequantize_int4(packed, scales, offsets) - weight).abs() <= step * 0.52).all()


def test_weights_of_zero_or_of_one_value_survive_quantisation():
    for value in (0.0, 0.5, -3.0):
        weight = torch.full((4, 64), value)
        assert torch.allclose(kernels.dequantize_int8(*kernels.quantize_int8(weight)), weight)
        assert torch.allclose(kernels.dequantize_int4(*kernels.quantize_int4(weight)), weight)


@pytest.mark.slow
def test_the_library_is_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    first = build.library()
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled twice"))
    assert build.library() == first
    assert first.stat().st_mtime_ns == stamp
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_without_a_compiler_one_error_says_what_to_install(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpecbenchError, match=r"no C\+\+ compiler") as caught:
        build.library()
    assert "install g++" in caught.value.hint


def test_a_compiler_that_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(SpecbenchError, match=r"cannot be compiled with .*false"):
        build.library()
    assert not list((tmp_path / "kernels").iterdir())


def test_other_flags_make_another_library(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "_compile", lambda *_: None)
    if not build._is_gcc(build._compiler()):
        pytest.skip("needs GCC")
    first = build.library()
    monkeypatch.setattr(build, "GCC_FLAGS", ())
    assert build.library() != first


def test_a_library_that_cannot_be_kept_or_loaded_is_one_error_and_no_reader(tmp_path):
    (tmp_path / "file").write_text("")
    script = (
        "from specbench.engine import bandwidth; from specbench.engine.kernels import build\n"
        "from specbench.errors import SpecbenchError\n"
        "assert not bandwidth.has_own_reader('cpu')\n"
        "try: build.load()\n"
        "except SpecbenchError as error: print(error.message)"
    )
    environment = {**os.environ, "SPECBENCH_CACHE": str(tmp_path / "file")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.startswith("the kernels cannot be loaded: "), done.stderr


def test_another_process_finds_the_compiled_library():
    build.library()
    script = (
        "import torch; from specbench.engine.kernels import build; build._compile = None; "
        "print(build.load().linear(torch.ones(1, 3), torch.ones(2, 3)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[[3.0, 3.0]]", done.stderr
