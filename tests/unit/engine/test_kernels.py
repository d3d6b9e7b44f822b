"""The CPU kernels: right, the same at every width and thread count, compiled once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def products(ops, inputs):
    """Each kind of product, as a function of x alone."""
    weight = numbers(131, inputs)  # odd: its last row is read alone
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


def test_every_row_is_bit_for_bit_the_same_at_every_thread_count(ops):
    x, before = numbers(5, 576, seed=5), torch.get_num_threads()
    for product in products(ops, 576):
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(product(x))
        torch.set_num_threads(before)
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


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
    first = build._library()
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled twice"))
    assert build._library() == first
    assert first.stat().st_mtime_ns == stamp
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_without_a_compiler_one_error_says_what_to_install(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpecbenchError, match=r"no C\+\+ compiler") as caught:
        build._library()
    assert "install g++" in caught.value.hint


def test_a_compiler_that_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(SpecbenchError, match=r"cannot be compiled with .*false"):
        build._library()
    assert not list((tmp_path / "kernels").iterdir())


CHAINS = """
#include "attention.h"
#include <cstdio>

using namespace specbench;

float number(int seed) { return static_cast<float>(seed * 7919 % 2003) / 1000 - 1; }

int main() {
  constexpr int K = 576, HEAD = 64, KEYS = 40;
  std::vector<float> x(2 * K), weight(K), alone(2), both(2);
  for (int i = 0; i < 2 * K; ++i) x[i] = number(i);
  for (int i = 0; i < K; ++i) weight[i] = number(3 * i + 1);
  for (int i = 0; i < 2; ++i) linear(Float32{weight.data()}, 0, 1, &x[i * K], K, 1, K, &alone[i], 1);
  linear(Float32{weight.data()}, 0, 1, x.data(), K, 2, K, both.data(), 1);

  std::vector<float> keys(KEYS * HEAD), single(2 * HEAD), pair(2 * HEAD);
  for (int i = 0; i < KEYS * HEAD; ++i) keys[i] = number(5 * i + 2);
  const Rows<float, float> rows{keys.data(), HEAD, HEAD};
  const float* queries[] = {&x[0], &x[K]};
  float* outs[] = {&pair[0], &pair[HEAD]};
  const int64_t lengths[] = {KEYS - 1, KEYS};
  const uint64_t seen[] = {0, 0};
  Scratch<float> scratch;
  attend_queries<float, float>(2, queries, lengths, seen, rows, rows, 0.125f, outs, scratch);
  for (int i = 0; i < 2; ++i) {
    float* out = &single[i * HEAD];
    attend_queries<float, float>(1, queries + i, lengths + i, seen, rows, rows, 0.125f, &out, scratch);
  }
  std::printf("%d %d", alone == both, single == pair);
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("tuned_for", ["znver2", "znver3", "haswell"])
def test_rows_are_the_same_in_company_whatever_processor_gcc_tunes_for(tmp_path, tuned_for):
    known = build.processor().split()
    compiler = build._compiler()
    if not {"avx2", "fma"} <= set(known) or not build._is_gcc(compiler):
        pytest.skip("needs GCC and a processor with AVX2")
    source, program = tmp_path / "chains.cpp", tmp_path / "chains"
    source.write_text(CHAINS)
    torch_headers = Path(torch.__file__).parent / "include"
    flags = [flag for flag in build.FLAGS if flag != "-march=native"]
    command = [
        *(compiler, *flags, *build.GCC_FLAGS, "-march=haswell", f"-mtune={tuned_for}"),
        *("-I", str(torch_headers), "-I", str(Path(build.__file__).parent), str(source), "-o", str(program)),
    ]
    subprocess.run(command, check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "1 1"


def test_other_flags_make_another_library(monkeypatch, tmp_path):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "_compile", lambda *_: None)
    if not build._is_gcc(build._compiler()):
        pytest.skip("needs GCC")
    first = build._library()
    monkeypatch.setattr(build, "GCC_FLAGS", ())
    assert build._library() != first


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
    build._library()
    script = (
        "import torch; from specbench.engine.kernels import build; build._compile = None; "
        "print(build.load().linear(torch.ones(1, 3), torch.ones(2, 3)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[[3.0, 3.0]]", done.stderr
