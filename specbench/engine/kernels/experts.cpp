// The operators torch.ops.specbench.experts, experts_int8 and experts_int4, for the CPU: products of rows with those
// matrices of many that they chose.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/library.h>

#include <vector>

#include "linear.h"
#include "shares.h"

namespace {

constexpr int64_t FEWEST_WEIGHTS = 16384;  // fewer are not worth waking a thread
constexpr int64_t COLUMNS = 512;           // of a transposed matrix that are read at a time

// Weights of two bytes, row after row.
template <class Narrow>
struct Halves {
  using Stored = Narrow;
  static constexpr int STEP = specbench::LINE / 2 / specbench::LANES, PER_ITEM = 1, NARROW_ROWS = 2;
  const Narrow* data;

  void begin(int64_t, int64_t) {}
  template <int DISTANCE>
  inline __attribute__((always_inline)) void load(const Narrow* from, int64_t, int64_t, specbench::Vec* into) const {
    specbench::fetch<DISTANCE>(from);
    for (int part = 0; part < STEP; ++part)
      for (int lane = 0; lane < specbench::LANES; ++lane)
        into[part][lane] = static_cast<float>(from[part * specbench::LANES + lane]);
  }
  inline float finish(int64_t, float sum) const { return sum; }
};

template <class Stored>
struct Kept {
  using Weights = Halves<Stored>;
};
template <>
struct Kept<float> {
  using Weights = specbench::Float32;
};

// sums += x[0] * rows[0] + ... + x[3] * rows[3], of rows `stride` apart; not inlined, so that all rows of x are
// added up by the same instructions.
template <class Stored>
__attribute__((noinline)) void add_rows(const float* x, const Stored* rows, int64_t stride, int64_t count,
                                        float* sums) {
  for (int64_t i = 0; i < count; ++i)
    sums[i] += x[0] * static_cast<float>(rows[i]) + x[1] * static_cast<float>(rows[i + stride]) +
               x[2] * static_cast<float>(rows[i + 2 * stride]) + x[3] * static_cast<float>(rows[i + 3 * stride]);
}

// out[n, begin .. end) = x[n, k] times the columns [begin, end) of `weights` (k, outputs).
template <class Stored>
void transposed_linear(const Stored* weights, int64_t outputs, int64_t begin, int64_t end, const float* x,
                       int64_t x_stride, int64_t n, int64_t k, float* out, int64_t out_stride) {
  for (int64_t i = 0; i < n; ++i) std::fill(out + i * out_stride + begin, out + i * out_stride + end, 0.0f);
  const int64_t whole = k / 4 * 4;
  for (int64_t row = 0; row < k; row += row < whole ? 4 : 1) {
    const Stored* from = weights + row * outputs + begin;
    for (int64_t i = 0; i < n; ++i) {
      const float* numbers = x + i * x_stride + row;
      const float alone[4] = {numbers[0], 0, 0, 0};  // the last ones, where four are not left
      add_rows(row < whole ? numbers : alone, from, row < whole ? outputs : 0, end - begin,
               out + i * out_stride + begin);
    }
  }
}

// The pairs of a row and a matrix that it chose, matrix by matrix.
struct Chosen {
  int64_t expert, begin, end, block;
};

// Rows of x times those of `count` matrices (outputs, k) that they chose, `columns` outputs at a time. x is padded to
// whole CHUNKs; product(expert, begin, end, x, stride, n, out) gives the outputs [begin, end) of n rows.
template <class Product>
at::Tensor multiply(const at::Tensor& x, const at::Tensor& chosen, int64_t count, int64_t outputs, int64_t k,
                    int64_t chunk, int64_t columns, const Product& product) {
  TORCH_CHECK(x.dim() == 2 && chosen.dim() == 2 && chosen.scalar_type() == at::kLong, "ids choose among experts");
  TORCH_CHECK(x.size(1) == k, "x has rows of ", x.size(1), " numbers");
  TORCH_CHECK(x.size(0) == chosen.size(0) || x.size(0) == chosen.numel(), "x has ", x.size(0), " rows for ",
              chosen.numel(), " choices");
  const at::Tensor ids = chosen.contiguous();
  const int64_t pairs = ids.numel(), rows = x.size(0), each = pairs / std::max<int64_t>(rows, 1);
  const int64_t stride = (k + chunk - 1) / chunk * chunk;
  const int64_t* experts = ids.const_data_ptr<int64_t>();
  std::vector<int64_t> next(count + 1, 0);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    TORCH_CHECK(0 <= experts[pair] && experts[pair] < count, "expert ", experts[pair], " of ", count);
    ++next[experts[pair] + 1];
  }
  std::vector<Chosen> groups;
  int64_t blocks = 0;
  for (int64_t expert = 0; expert < count; ++expert) {
    next[expert + 1] += next[expert];
    if (next[expert] == next[expert + 1]) continue;
    groups.push_back({expert, next[expert], next[expert + 1], blocks});
    blocks += (outputs + columns - 1) / columns;
  }
  const at::Tensor wide = x.to(at::kFloat).contiguous();
  const float* numbers = wide.const_data_ptr<float>();
  std::vector<float> inputs(pairs * stride, 0.0f), products(pairs * outputs);
  std::vector<int64_t> places(pairs);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    places[pair] = next[experts[pair]]++;
    std::copy_n(numbers + pair / each * k, k, inputs.data() + places[pair] * stride);
  }
  specbench::share(blocks, FEWEST_WEIGHTS / (k * columns + 1) + 1, 1, [&](int64_t first, int64_t last) {
    for (const Chosen& group : groups) {
      const int64_t begin = std::max(first - group.block, int64_t{0}) * columns;
      const int64_t end = std::min((last - group.block) * columns, outputs);
      if (begin < end)
        product(group.expert, begin, end, inputs.data() + group.begin * stride, stride, group.end - group.begin,
                products.data() + group.begin * outputs);
    }
  });
  at::Tensor out = at::empty({pairs, outputs}, x.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "experts", [&] {
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    for (int64_t pair = 0; pair < pairs; ++pair)
      for (int64_t i = 0; i < outputs; ++i)
        to[pair * outputs + i] = static_cast<scalar_t>(products[places[pair] * outputs + i]);
  });
  return out;
}

// The same of matrices that lie row after row; weights(expert) are those of one.
template <class Weights, class Find>
at::Tensor multiply_rows(const at::Tensor& x, const at::Tensor& chosen, int64_t count, int64_t outputs, int64_t k,
                         const Find& weights) {
  return multiply(x, chosen, count, outputs, k, Weights::STEP * specbench::LANES, specbench::BLOCK_ROWS,
                  [&](int64_t expert, int64_t begin, int64_t end, const float* from, int64_t stride, int64_t n,
                      float* to) {
                    specbench::linear(weights(expert), begin, end, from, stride, n, k, to, outputs);
                  });
}

template <class Stored>
at::Tensor multiply_stored(const at::Tensor& x, const at::Tensor& chosen, const at::Tensor& weights,
                           bool transposed) {
  const int64_t count = weights.size(0), k = weights.size(transposed ? 1 : 2), outputs = weights.size(transposed ? 2 : 1);
  const Stored* data = weights.const_data_ptr<Stored>();
  using Weights = typename Kept<Stored>::Weights;
  if (!transposed)
    return multiply_rows<Weights>(x, chosen, count, outputs, k,
                                  [&](int64_t expert) { return Weights{data + expert * outputs * k}; });
  return multiply(x, chosen, count, outputs, k, 1, COLUMNS,
                  [&](int64_t expert, int64_t begin, int64_t end, const float* from, int64_t stride, int64_t n,
                      float* to) {
                    for (int64_t at = begin; at < end; at += COLUMNS)
                      transposed_linear(data + expert * outputs * k, outputs, at, std::min(at + COLUMNS, end), from,
                                        stride, n, k, to, outputs);
                  });
}

// Rows of `x` (rows, k) times the matrices that `chosen` (tokens, choices) names of `weights` (experts, outputs, k),
// or (experts, k, outputs) where they are transposed. A row of x is a token, which serves all its choices, or a
// choice. Only what was chosen is read, and once for all rows. Returns (tokens * choices, outputs).
at::Tensor experts(const at::Tensor& x, const at::Tensor& chosen, const at::Tensor& weights, int64_t transposed) {
  TORCH_CHECK(weights.dim() == 3 && weights.is_contiguous() && weights.scalar_type() == x.scalar_type(),
              "experts are contiguous matrices of the type of x");
  switch (weights.scalar_type()) {
    case at::kFloat: return multiply_stored<float>(x, chosen, weights, transposed);
    case at::kBFloat16: return multiply_stored<c10::BFloat16>(x, chosen, weights, transposed);
    case at::kHalf: return multiply_stored<c10::Half>(x, chosen, weights, transposed);
    default: TORCH_CHECK(false, "experts in ", weights.scalar_type(), " are not served");
  }
}

void check(const at::Tensor& tensor, at::ScalarType type, at::IntArrayRef sizes) {
  TORCH_CHECK(tensor.is_contiguous() && tensor.scalar_type() == type && tensor.sizes() == sizes, "experts of ", sizes,
              " ", type, " are not ", tensor.sizes(), " ", tensor.scalar_type());
}

// The same of int8 weights (experts, outputs, k) with a scale for each row.
at::Tensor experts_int8(const at::Tensor& x, const at::Tensor& chosen, const at::Tensor& weights,
                        const at::Tensor& scales) {
  TORCH_CHECK(weights.dim() == 3, "experts are matrices");
  const int64_t count = weights.size(0), outputs = weights.size(1), k = weights.size(2);
  check(weights, at::kChar, {count, outputs, k});
  check(scales, at::kFloat, {count, outputs});
  const int8_t* data = weights.const_data_ptr<int8_t>();
  const float* scale = scales.const_data_ptr<float>();
  return multiply_rows<specbench::Int8>(x, chosen, count, outputs, k, [&](int64_t expert) {
    return specbench::Int8{data + expert * outputs * k, scale + expert * outputs};
  });
}

// The same of int4 weights (experts, outputs, k / 2) with a scale and an offset for each group of a row.
at::Tensor experts_int4(const at::Tensor& x, const at::Tensor& chosen, const at::Tensor& weights,
                        const at::Tensor& scales, const at::Tensor& offsets) {
  TORCH_CHECK(weights.dim() == 3, "experts are matrices");
  const int64_t count = weights.size(0), outputs = weights.size(1), half = weights.size(2);
  const int64_t groups = half * 2 / specbench::GROUP;
  TORCH_CHECK(half * 2 % specbench::GROUP == 0, "rows of ", half * 2, " weights are not whole groups of 32");
  check(weights, at::kByte, {count, outputs, half});
  check(scales, at::kHalf, {count, outputs, groups});
  check(offsets, at::kHalf, {count, outputs, groups});
  const uint8_t* data = weights.const_data_ptr<uint8_t>();
  const at::Half *scale = scales.const_data_ptr<at::Half>(), *offset = offsets.const_data_ptr<at::Half>();
  return multiply_rows<specbench::Int4>(x, chosen, count, outputs, half * 2, [&](int64_t expert) {
    const int64_t first = expert * outputs;
    return specbench::Int4{data + first * half, scale + first * groups, offset + first * groups, groups};
  });
}

using torch::aot_inductor::new_tensor_handle;

const at::Tensor* known(AtenTensorHandle handle) { return torch::aot_inductor::tensor_handle_to_tensor_pointer(handle); }

}  // namespace

extern "C" AOTITorchError aoti_torch_cpu_experts(AtenTensorHandle x, AtenTensorHandle chosen, AtenTensorHandle weights,
                                                 int64_t transposed, AtenTensorHandle* product) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE(
      { *product = new_tensor_handle(experts(*known(x), *known(chosen), *known(weights), transposed)); });
}

extern "C" AOTITorchError aoti_torch_cpu_experts_int8(AtenTensorHandle x, AtenTensorHandle chosen,
                                                      AtenTensorHandle weights, AtenTensorHandle scales,
                                                      AtenTensorHandle* product) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE(
      { *product = new_tensor_handle(experts_int8(*known(x), *known(chosen), *known(weights), *known(scales))); });
}

extern "C" AOTITorchError aoti_torch_cpu_experts_int4(AtenTensorHandle x, AtenTensorHandle chosen,
                                                      AtenTensorHandle weights, AtenTensorHandle scales,
                                                      AtenTensorHandle offsets, AtenTensorHandle* product) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    *product = new_tensor_handle(
        experts_int4(*known(x), *known(chosen), *known(weights), *known(scales), *known(offsets)));
  });
}

TORCH_LIBRARY_FRAGMENT(specbench, library) {
  library.def("experts(Tensor x, Tensor chosen, Tensor weights, int transposed) -> Tensor");
  library.def("experts_int8(Tensor x, Tensor chosen, Tensor weights, Tensor scales) -> Tensor");
  library.def("experts_int4(Tensor x, Tensor chosen, Tensor weights, Tensor scales, Tensor offsets) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("experts", &experts);
  library.impl("experts_int8", &experts_int8);
  library.impl("experts_int4", &experts_int4);
}
