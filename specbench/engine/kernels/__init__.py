"""Products of a few rows with large weights, at the speed of memory, on the CPU.

MKL reads float32 weights at a third of what memory gives for one row, and at a fifth for a few. These kernels
read every weight once for up to eight rows (64-byte vectors, fetched ahead over the ends of pages) and add
up each number of the result in one order that depends on neither the number of rows nor of threads. So row i
of a product of n rows is bit for bit the product of row i alone.

After `load()`, which compiles the C++ source once per machine (seconds) and finds it in the cache afterwards
(milliseconds), these operators exist; `torch.compile` can trace them; they are for inference only:

- `torch.ops.specbench.linear(x, weight)`: x float32 [..., k], weight float32 [o, k] -> float32 [..., o].
- `torch.ops.specbench.linear_int8(x, weight, scales)`: weight int8 [o, k], scales float32 [o]; a weight is
  `scales[o] * weight[o, k]`. Converted to float32 in registers; computes in float32.
- `torch.ops.specbench.linear_int4(x, weight, scales, offsets)`: weight uint8 [o, k/2], scales and offsets
  float16 [o, k/32]; a weight is `offset + scale * code`, code 0 to 15, in groups of 32 along k. Byte i of the
  16 of a group holds code i in its low half and code 16 + i in its high half.
- `torch.ops.specbench.products(x, weights, scales, offsets, widest)`: x times several weights of one kind,
  side by side: [..., the sum of all o], shared by the threads at once. Float32 weights have neither scales nor
  offsets and go to torch's own product beyond `widest` rows (one number each); int8 weights have no offsets.
- `torch.ops.specbench.read_one_by_one(on)`: whether, in this process, one or two rows of x meet float32 weights
  row by row. The numbers are the same; `choice.py` measures which is faster.
- `torch.ops.specbench.stored(x)`: a copy, which a compiler does not compute again wherever it is read.
- `torch.ops.specbench.attend(query, keys, values, places, scale)`: causal attention of query
  [1, heads, width, d] over a cache [1, key heads, capacity, d] that holds them -> [1, width, heads, d].
  `places` [3, width] begins with how many keys stand before theirs; its last row has a bit for each token of a
  tree that a row sees, and zero in a chain. Every row is computed as if its path were read alone.
- `torch.ops.specbench.attend_packed(query, key, value, places, spans, addresses, layer, scale)`: the same for
  rows of several sequences, each with a cache of its own that lies at an address, and receives its keys and
  values.
- `torch.ops.specbench.attend_within(..., window, chunk, cap, sinks, slopes, rounded)` and
  `attend_packed_within(...)`: the same where a row sees its `window` newest keys alone, or those of its own
  `chunk` of the text, where scores are squashed to less than `cap`, and where each head has a sink or a slope
  of ALiBi (`sinks` and `slopes` are one vector, or none); 0 is none. `rounded` is how Falcon adds ALiBi:
  positions and products in bfloat16, before the scale. Keys that no row sees are not read.
- `torch.ops.specbench.experts(x, chosen, weights, transposed)`: rows of x times those of the matrices `weights`
  [experts, o, k] (transposed: [experts, k, o]) that `chosen` [tokens, choices] names -> [tokens * choices, o].
  x has a row for each token or for each choice. Other experts are not read. Float32, bfloat16 and float16,
  added up in float32.
- `torch.ops.specbench.experts_int8(x, chosen, weights, scales)` and `experts_int4(..., offsets)`: the same of
  float32 x and weights as of `linear_int8` and `linear_int4`, with a dimension of experts before the others.
- `torch.ops.specbench.attend_slots(query, keys, values, lengths, scale)`: attention of one token of each of
  many sequences, query float32 or bfloat16 [rows, heads, d], over keys and values [slots, key heads, capacity,
  d] of which row r sees the first `lengths[r]` of slot r. d is a multiple of 16.

No other product was better at any width up to 16, for any kind of weight; `torch.nn.functional.linear` wins for
float32 from about 48 rows (64: 75 ms against 87 for 538 MB), so a prefill is its business and a choice by shape
is not needed. `tests/perf/kernel_speed.py` shows it for the machine at hand.

A compiled pass of few tokens is one parallel region (`team.h`): its threads wait for the next product where
they are, and read ahead in its weights while the first one does what lies between.

Weights must be contiguous; x may be any float32 tensor. A weight may be a slice of rows of a larger matrix.

`quantize_int8` and `quantize_int4` make such weights, `dequantize_int8` and `dequantize_int4` undo them.

Raises (all of them): `SpecbenchError` when there is no C++ compiler or the cache cannot be used;
`RuntimeError` for operands that do not fit each other.
"""

from specbench.engine.kernels.build import library, load, processor
from specbench.engine.kernels.quantization import (
    GROUP,
    dequantize_int4,
    dequantize_int8,
    quantize_int4,
    quantize_int8,
)

__all__ = [
    "GROUP",
    "dequantize_int4",
    "dequantize_int8",
    "library",
    "load",
    "processor",
    "quantize_int4",
    "quantize_int8",
]
