// The operators torch.ops.specbench.linear, linear_int8 and linear_int4, for the CPU.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <vector>

#include "linear.h"

namespace {

constexpr int64_t FEWEST_WEIGHTS = 16384;  // fewer are not worth waking a thread

void check_rows(const at::Tensor& x, int64_t k) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1, "x must be float32 with at least one dimension");
  TORCH_CHECK(x.size(-1) == k, "x has rows of ", x.size(-1), " numbers and the weight of ", k);
}

void check_weight(const at::Tensor& weight, at::ScalarType type) {
  TORCH_CHECK(weight.scalar_type() == type && weight.dim() == 2 && weight.is_contiguous(),
              "the weight must be a contiguous matrix of ", type);
}

void check_scales(const at::Tensor& scales, at::ScalarType type, at::IntArrayRef shape) {
  TORCH_CHECK(scales.scalar_type() == type && scales.sizes() == shape && scales.is_contiguous(),
              "scales and offsets must be contiguous ", type, " of shape ", shape);
}

template <class Weights>
at::Tensor product(const at::Tensor& x, const Weights& weights, int64_t outputs, int64_t k) {
  constexpr int64_t CHUNK = Weights::STEP * specbench::LANES;
  const at::Tensor rows = x.contiguous();
  const int64_t n = k == 0 ? 0 : rows.numel() / k, stride = (k + CHUNK - 1) / CHUNK * CHUNK;
  const float* from = rows.const_data_ptr<float>();
  std::vector<float> padded;
  if (stride != k) {
    padded.resize(n * stride);
    for (int64_t i = 0; i < n; ++i) std::copy_n(from + i * k, k, padded.data() + i * stride);
    from = padded.data();
  }
  auto shape = x.sizes().vec();
  shape.back() = outputs;
  at::Tensor out = at::empty(shape, x.options());
  float* to = out.mutable_data_ptr<float>();
  const int64_t blocks = (outputs + specbench::BLOCK_ROWS - 1) / specbench::BLOCK_ROWS;
  const int64_t grain = FEWEST_WEIGHTS / (k * specbench::BLOCK_ROWS + 1) + 1;
  at::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
    specbench::linear(weights, begin * specbench::BLOCK_ROWS, std::min(end * specbench::BLOCK_ROWS, outputs),
                      from, stride, n, k, to, outputs);
  });
  return out;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  check_weight(weight, at::kFloat);
  check_rows(x, weight.size(1));
  const specbench::Float32 weights{weight.const_data_ptr<float>()};
  return product(x, weights, weight.size(0), weight.size(1));
}

at::Tensor linear_int8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales) {
  check_weight(weight, at::kChar);
  check_rows(x, weight.size(1));
  check_scales(scales, at::kFloat, {weight.size(0)});
  const specbench::Int8 weights{weight.const_data_ptr<int8_t>(), scales.const_data_ptr<float>()};
  return product(x, weights, weight.size(0), weight.size(1));
}

at::Tensor linear_int4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                       const at::Tensor& offsets) {
  check_weight(weight, at::kByte);
  const int64_t k = weight.size(1) * 2, groups = k / specbench::GROUP;
  TORCH_CHECK(k % specbench::GROUP == 0, "rows of ", k, " weights are not whole groups of 32");
  check_rows(x, k);
  check_scales(scales, at::kHalf, {weight.size(0), groups});
  check_scales(offsets, at::kHalf, {weight.size(0), groups});
  const specbench::Int4 weights{weight.const_data_ptr<uint8_t>(), scales.const_data_ptr<at::Half>(),
                                offsets.const_data_ptr<at::Half>(), groups};
  return product(x, weights, weight.size(0), k);
}

}  // namespace

TORCH_LIBRARY(specbench, library) {
  library.def("linear(Tensor x, Tensor weight) -> Tensor");
  library.def("linear_int8(Tensor x, Tensor weight, Tensor scales) -> Tensor");
  library.def("linear_int4(Tensor x, Tensor weight, Tensor scales, Tensor offsets) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("linear", &linear);
  library.impl("linear_int8", &linear_int8);
  library.impl("linear_int4", &linear_int4);
}
