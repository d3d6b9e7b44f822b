// The operators torch.ops.specbench.attend and project, for the CPU.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

constexpr int LANES = 16;
constexpr int64_t FEWEST_PRODUCTS = 16384;  // fewer are not worth waking a thread

// One accumulator a lane, added up pairwise: the order of additions depends on `n` alone.
template <class Wide, class Stored>
inline Wide dot(const Wide* query, const Stored* key, int64_t n) {
  Wide sums[LANES] = {};
  int64_t d = 0;
  for (; d + LANES <= n; d += LANES)
    for (int lane = 0; lane < LANES; ++lane) sums[lane] += query[d + lane] * static_cast<Wide>(key[d + lane]);
  for (int lane = 0; d + lane < n; ++lane) sums[lane] += query[d + lane] * static_cast<Wide>(key[d + lane]);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  return sums[0];
}

// One head of one query row over the first `length` keys. Never inlined, so that every row of every width
// runs the very same instructions.
template <class Wide, class Stored>
__attribute__((noinline)) void attend_row(const Stored* query, const Stored* keys, const Stored* values,
                                          Stored* out, int64_t length, int64_t key_size, int64_t value_size,
                                          int64_t key_stride, int64_t value_stride, Wide scale, Wide* scratch) {
  Wide* scaled = scratch;
  Wide* sum = scaled + key_size;
  Wide* scores = sum + value_size;
  for (int64_t d = 0; d < key_size; ++d) scaled[d] = static_cast<Wide>(query[d]) * scale;
  Wide highest = -std::numeric_limits<Wide>::infinity();
  for (int64_t j = 0; j < length; ++j) {
    scores[j] = dot<Wide, Stored>(scaled, keys + j * key_stride, key_size);
    highest = scores[j] > highest ? scores[j] : highest;
  }
  Wide total = 0;
  for (int64_t j = 0; j < length; ++j) {
    scores[j] = std::exp(scores[j] - highest);
    total += scores[j];
  }
  for (int64_t d = 0; d < value_size; ++d) sum[d] = 0;
  for (int64_t j = 0; j < length; ++j) {
    const Stored* value = values + j * value_stride;
    for (int64_t d = 0; d < value_size; ++d) sum[d] += scores[j] * static_cast<Wide>(value[d]);
  }
  for (int64_t d = 0; d < value_size; ++d) out[d] = static_cast<Stored>(sum[d] / total);
}

// Causal attention of `query` (1, heads, width, size) at positions start, start + 1, ... over a cache whose
// `keys` and `values` (1, key heads, capacity, size) hold these positions already. Returns (1, width, heads, size).
at::Tensor attend(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                  const at::Tensor& start, double scale) {
  const int64_t heads = query.size(1), width = query.size(2), key_size = query.size(3);
  const int64_t value_size = values.size(3), group = heads / keys.size(1);
  const int64_t first = *start.const_data_ptr<int64_t>();
  TORCH_CHECK(first >= 0 && first + width <= keys.size(2), "positions ", first, " to ", first + width,
              " lie outside a cache of ", keys.size(2));
  TORCH_CHECK(query.stride(3) == 1 && keys.stride(3) == 1 && values.stride(3) == 1,
              "the numbers of a head must lie side by side");
  at::Tensor out = at::empty({1, width, heads, value_size}, query.options());
  const int64_t length = first + width;
  const int64_t grain = FEWEST_PRODUCTS / (length * (key_size + value_size) + 1) + 1;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, query.scalar_type(), "attend", [&] {
    using Wide = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t* from = query.const_data_ptr<scalar_t>();
    const scalar_t* key = keys.const_data_ptr<scalar_t>();
    const scalar_t* value = values.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, heads * width, grain, [&](int64_t begin, int64_t end) {
      std::vector<Wide> scratch(key_size + value_size + length);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t head = i / width, row = i % width;
        attend_row<Wide, scalar_t>(from + head * query.stride(1) + row * query.stride(2),
                                   key + head / group * keys.stride(1), value + head / group * values.stride(1),
                                   to + (row * heads + head) * value_size, first + row + 1, key_size, value_size,
                                   keys.stride(2), values.stride(2), static_cast<Wide>(scale), scratch.data());
      }
    });
  });
  return out;
}

// x times the weight: by specbench's kernel up to `widest` rows of x, by torch's own beyond.
at::Tensor project(const at::Tensor& x, const at::Tensor& weight, int64_t widest) {
  static const auto narrow = c10::Dispatcher::singleton()
                                 .findSchemaOrThrow("specbench::linear", "")
                                 .typed<at::Tensor(const at::Tensor&, const at::Tensor&)>();
  return x.numel() <= widest * weight.size(1) ? narrow.call(x, weight) : at::linear(x, weight);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(specbench, library) {
  library.def("attend(Tensor query, Tensor keys, Tensor values, Tensor start, float scale) -> Tensor");
  library.def("project(Tensor x, Tensor weight, int widest) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("attend", &attend);
  library.impl("project", &project);
}
