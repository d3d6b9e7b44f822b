"""Our kernels of attention with windows, pieces of the text, caps, sinks and ALiBi, and of experts."""

import random

import pytest
import torch

from specbench.engine import kernels
from specbench.engine.trees import places

pytestmark = pytest.mark.usefixtures("two_threads")  # rows are divided among threads

ROOM, HEADS, KEY_HEADS, SIZE, VALUE_SIZE, SCALE = 160, 6, 2, 24, 20, 0.2
THREADS = (1, 2, 4, 8, 16)  # most machines that run this have fewer cores
KINDS = {
    "window": (9, 0, 0.0),
    "wide window": (70, 0, 0.0),
    "chunk": (0, 16, 0.0),
    "cap": (0, 0, 3.0),
    "window and cap": (33, 0, 3.0),
    "ALiBi": (0, 0, 0.0),
    "rounded ALiBi": (0, 0, 0.0),
    "window and ALiBi": (33, 0, 0.0),
}
SLOPES = torch.tensor([2.0 ** (-1 - head / 2) for head in range(HEADS)]).bfloat16().float()  # as Falcon's are


@pytest.fixture(scope="module")
def ops():
    return kernels.load()


@pytest.fixture(params=KINDS)
def extras(request):
    """Window, chunk, cap, sinks in every other kind, slopes, and whether ALiBi is rounded."""
    sinks = [torch.linspace(-2, 2, HEADS)] if "w" in request.param else []
    slopes = [SLOPES] if "ALiBi" in request.param else []
    return *KINDS[request.param], sinks, slopes, int("rounded" in request.param)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def states(width):
    sizes = (HEADS, width, SIZE), (KEY_HEADS, ROOM, SIZE), (KEY_HEADS, ROOM, VALUE_SIZE)
    return tuple(drawn(1, *size, seed=seed) for seed, size in enumerate(sizes))


def attended(ops, start, width, extras, parents=None):
    where = torch.tensor(places(start, width, parents))
    return ops.attend_within(*states(width), where, SCALE, *extras)


def by_torch(start, width, window, chunk, cap, sinks, slopes, rounded):
    query, keys, values = (part.double() for part in states(width))
    keys, values = (part.repeat_interleave(HEADS // KEY_HEADS, 1) for part in (keys, values))
    scores = query @ keys.transpose(2, 3) * SCALE
    if cap:
        scores = torch.tanh(scores / cap) * cap
    own, other = torch.arange(start, start + width)[:, None], torch.arange(ROOM)
    if slopes:
        distances = slopes[0].double().view(-1, 1, 1) * (other - own)
        in_bfloat16 = slopes[0].bfloat16().view(-1, 1, 1) * other.bfloat16()
        scores = scores + (in_bfloat16.double() * SCALE if rounded else distances)
    sees = other <= own
    if window:
        sees &= other > own - window
    if chunk:
        sees &= other // chunk == own // chunk
    scores = scores.masked_fill(~sees, -torch.inf)
    if sinks:
        scores = torch.cat([scores, sinks[0].double().view(1, HEADS, 1, 1).expand(1, -1, width, 1)], -1)
    return (scores.softmax(-1)[..., :ROOM] @ values).transpose(1, 2)


@pytest.mark.parametrize(("start", "width"), [(0, 1), (0, 40), (31, 3), (95, 65), (120, 1)])
def test_attention_is_that_of_torch_with_a_mask(ops, extras, start, width):
    expected = by_torch(start, width, *extras)
    torch.testing.assert_close(attended(ops, start, width, extras).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", [94, *(pytest.param(start, marks=pytest.mark.slow) for start in (0, 15, 70))])
def test_a_row_has_the_bits_that_it_has_alone_whatever_the_threads(ops, extras, start):
    query, keys, values = states(65)
    alone = [
        ops.attend_within(
            query[:, :, [row]], keys, values, torch.tensor(places(start + row, 1, None)), SCALE, *extras
        )
        for row in range(65)
    ]
    expected, before = torch.cat(alone, 1), torch.get_num_threads()
    for threads in THREADS:
        torch.set_num_threads(threads)
        for width in (3, 65):
            where = torch.tensor(places(start, width, None))
            found = ops.attend_within(query[:, :, :width], keys, values, where, SCALE, *extras)
            assert torch.equal(found, expected[:, :width])
    torch.set_num_threads(before)


@pytest.mark.parametrize(("start", "count"), [(3, 64), (60, 21), (0, 9)])
def test_a_row_of_a_tree_has_the_bits_of_its_path_read_as_a_chain(ops, extras, start, count):
    draw = random.Random(count)
    parents = [draw.randrange(max(-1, index - 3), index) for index in range(count)]
    query, keys, values = states(count)
    rows = attended(ops, start, count, extras, parents)
    for node in range(count):
        path = [node]
        while parents[path[0]] >= 0:
            path.insert(0, parents[path[0]])
        order = [*range(start), *(start + index for index in path)]
        chain = torch.tensor(places(start, len(path), None))
        alone = ops.attend_within(
            query[:, :, path], keys[:, :, order], values[:, :, order], chain, SCALE, *extras
        )
        assert torch.equal(rows[0, node], alone[0, -1])


@pytest.mark.parametrize("threads", [2, 16])
def test_sequences_that_share_a_pass_have_the_bits_that_they_have_alone(ops, extras, threads):
    spans = [(3, 90), (1, 0), (5, 31)]
    width = sum(count for count, _ in spans)
    query, *_ = states(width)
    key, value = drawn(1, KEY_HEADS, width, SIZE, seed=5), drawn(1, KEY_HEADS, width, VALUE_SIZE, seed=6)
    caches = [tuple(part.clone() for part in states(1)[1:]) for _ in spans]
    addresses = torch.tensor([[keys.data_ptr(), values.data_ptr()] for keys, values in caches])
    where = torch.cat([torch.tensor(places(start, count, None)) for count, start in spans], 1)
    known = torch.tensor([(count, start, ROOM) for count, start in spans])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    together = ops.attend_packed_within(query, key, value, where, known, addresses, 0, SCALE, *extras)
    torch.set_num_threads(before)
    lead = 0
    for (count, start), (keys, values) in zip(spans, caches, strict=True):
        own, chain = slice(lead, lead + count), torch.tensor(places(start, count, None))
        assert torch.equal(keys[:, :, start : start + count], key[:, :, own])
        alone = ops.attend_within(query[:, :, own], keys, values, chain, SCALE, *extras)
        assert torch.equal(together[:, own], alone)
        lead += count


def test_without_limits_it_is_plain_attention_bit_for_bit(ops):
    where = torch.tensor(places(50, 9, None))
    plain = ops.attend(*states(9), where, SCALE)
    assert torch.equal(ops.attend_within(*states(9), where, SCALE, 0, 0, 0.0, [], [], 0), plain)


EXPERTS, CHOICES = 7, 3


def mixture(rows, outputs, inputs, transposed, dtype=torch.float32):
    x = drawn(rows, inputs).to(dtype)
    weights = drawn(EXPERTS, outputs, inputs, seed=1).to(dtype)
    chosen = torch.stack([torch.randperm(EXPERTS - 1, generator=torch.Generator().manual_seed(row))[:CHOICES]
                          for row in range(rows)])  # fmt: skip
    weights[EXPERTS - 1] = torch.nan  # nobody chooses it
    stored = weights.transpose(1, 2).contiguous() if transposed else weights
    return x, chosen, weights, stored


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(1, 40, 32), (5, 1100, 70), (40, 30, 129)])
def test_rows_are_multiplied_with_the_experts_that_they_chose_and_no_other_is_read(
    ops, rows, outputs, inputs, dtype, transposed
):
    x, chosen, weights, stored = mixture(rows, outputs, inputs, transposed, dtype)
    found = ops.experts(x, chosen, stored, transposed)
    expected = torch.einsum("tk,tcok->tco", x.double(), weights[chosen].double()).flatten(0, 1)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 2e-1}
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, **tolerance)
    again = ops.experts(x.repeat_interleave(CHOICES, 0), chosen, stored, transposed)
    assert torch.equal(found, again)  # a row for each choice


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_row_with_experts_has_the_bits_that_it_has_alone_whatever_the_threads(ops, transposed):
    x, chosen, _, stored = mixture(65, 1100, 70, transposed)
    alone = torch.cat([ops.experts(x[[row]], chosen[[row]], stored, transposed) for row in range(65)])
    before = torch.get_num_threads()
    for threads in THREADS:
        torch.set_num_threads(threads)
        for width in (5, 65):
            found = ops.experts(x[:width], chosen[:width], stored, transposed)
            assert torch.equal(found, alone[: width * CHOICES])
    torch.set_num_threads(before)


QUANTISED = {"int8": kernels.quantize_int8, "int4": kernels.quantize_int4}


def quantised_mixture(kind, rows, outputs, inputs):
    x, chosen, weights, _ = mixture(rows, outputs, inputs, 0)
    parts = [torch.stack(each) for each in zip(*map(QUANTISED[kind], weights.nan_to_num()), strict=True)]
    parts[1][EXPERTS - 1] = torch.nan  # nobody chooses it
    return x, chosen, parts


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(1, 40, 32), (5, 1100, 96), (40, 30, 160)])
def test_a_quantised_expert_gives_a_row_the_bits_of_its_own_product_and_no_other_is_read(
    ops, rows, outputs, inputs, kind
):
    x, chosen, parts = quantised_mixture(kind, rows, outputs, inputs)
    found = getattr(ops, f"experts_{kind}")(x, chosen, *parts).view(rows, CHOICES, outputs)
    product = getattr(ops, f"linear_{kind}")
    for row in range(rows):
        for choice, expert in enumerate(chosen[row]):
            assert torch.equal(found[row, choice], product(x[row], *(part[expert] for part in parts)))


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_experts_give_the_same_bits_whatever_the_threads(ops, kind):
    x, chosen, parts = quantised_mixture(kind, 65, 1100, 96)
    product, before = getattr(ops, f"experts_{kind}"), torch.get_num_threads()
    expected = product(x, chosen, *parts)
    for threads in THREADS:
        torch.set_num_threads(threads)
        assert torch.equal(product(x[:5], chosen[:5], *parts), expected[: 5 * CHOICES])
        assert torch.equal(product(x.repeat_interleave(CHOICES, 0), chosen, *parts), expected)
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", QUANTISED)
def test_scales_of_other_experts_are_refused(ops, kind):
    x, chosen, (weights, scales, *offsets) = quantised_mixture(kind, 2, 40, 32)
    with pytest.raises(RuntimeError, match="experts of"):
        getattr(ops, f"experts_{kind}")(x, chosen, weights, scales[1:].contiguous(), *offsets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, chosen, weights: (x, chosen + 5, weights), "expert [789] of 7"),
        (lambda x, chosen, weights: (x[:, 1:], chosen, weights), "x has rows of 31 numbers"),
        (lambda x, chosen, weights: (x[:1], chosen, weights), "x has 1 rows for 6 choices"),
        (lambda x, chosen, weights: (x.double(), chosen, weights), "contiguous matrices of the type of x"),
    ],
)
def test_operands_of_experts_that_do_not_fit_are_refused(ops, change, message):
    x, chosen, _, stored = mixture(2, 40, 32, 0)
    with pytest.raises(RuntimeError, match=message):
        ops.experts(*change(x, chosen, stored), 0)
