// The operators torch.ops.specbench.products, linear, linear_int8 and linear_int4, for the CPU.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/library.h>

#include <vector>

#include "linear.h"
#include "shares.h"

namespace {

constexpr int64_t FEWEST_WEIGHTS = 16384;  // fewer are not worth waking a thread
constexpr int64_t CLAIMED_BYTES = 16384;   // that a thread takes at a time

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

// One of several matrices: its rows are columns `column` onward of the result, its blocks `block` onward of all.
template <class Weights>
struct Matrix {
  Weights weights;
  int64_t outputs, column = 0, block = 0;
};

at::Tensor result(const at::Tensor& x, int64_t columns) {
  auto shape = x.sizes().vec();
  shape.back() = columns;
  return at::empty(shape, x.options());
}

// What each thread reads first.
template <class Weights>
specbench::Stretches beginnings(const std::vector<Matrix<Weights>>& matrices, int64_t k, int64_t blocks,
                                int64_t threads) {
  specbench::Stretches found;
  for (int64_t member = 0; member < threads; ++member) {
    const int64_t block = blocks * member / threads;
    for (const auto& matrix : matrices) {
      const int64_t row = (block - matrix.block) * specbench::BLOCK_ROWS;
      if (row < 0 || row >= matrix.outputs) continue;
      const auto* place = matrix.weights.data + row * k / Weights::PER_ITEM;
      const auto* end = matrix.weights.data + matrix.outputs * k / Weights::PER_ITEM;
      found[member] = {reinterpret_cast<const char*>(place), (end - place) * int64_t{sizeof(*place)}};
    }
  }
  return found;
}

// x times each matrix, side by side in the rows of the result; threads take blocks of rows until none is left.
template <class Weights>
at::Tensor multiply(const at::Tensor& x, std::vector<Matrix<Weights>> matrices, int64_t k) {
  constexpr int64_t CHUNK = Weights::STEP * specbench::LANES, ROWS = specbench::BLOCK_ROWS;
  int64_t columns = 0, blocks = 0;
  for (auto& matrix : matrices) {
    matrix.column = columns;
    matrix.block = blocks;
    columns += matrix.outputs;
    blocks += (matrix.outputs + ROWS - 1) / ROWS;
  }
  const at::Tensor rows = x.contiguous();
  const int64_t n = k == 0 ? 0 : rows.numel() / k, stride = (k + CHUNK - 1) / CHUNK * CHUNK;
  const float* from = rows.const_data_ptr<float>();
  std::vector<float> padded;
  if (stride != k) {
    padded.resize(n * stride);
    for (int64_t i = 0; i < n; ++i) std::copy_n(from + i * k, k, padded.data() + i * stride);
    from = padded.data();
  }
  at::Tensor out = result(x, columns);
  float* to = out.mutable_data_ptr<float>();
  const int64_t block_weights = k * ROWS + 1, block_bytes = block_weights / Weights::PER_ITEM * sizeof(typename Weights::Stored);
  const int64_t fewest = FEWEST_WEIGHTS / block_weights + 1;
  if (specbench::Team* team = specbench::Team::current())
    team->reads(beginnings(matrices, k, blocks, specbench::sharers(blocks, fewest)));
  specbench::share(blocks, fewest, CLAIMED_BYTES / (block_bytes + 1) + 1, [&](int64_t begin, int64_t end) {
    for (size_t i = 0; i < matrices.size() && matrices[i].block < end; ++i) {
      const auto& matrix = matrices[i];
      const int64_t first = std::max(begin - matrix.block, int64_t{0}) * ROWS;
      const int64_t stop = std::min((end - matrix.block) * ROWS, matrix.outputs);
      if (first < stop) specbench::linear(matrix.weights, first, stop, from, stride, n, k, to + matrix.column, columns);
    }
  });
  return out;
}

Matrix<specbench::Float32> float32(const at::Tensor& x, const at::Tensor& weight) {
  check_weight(weight, at::kFloat);
  check_rows(x, weight.size(1));
  return {{weight.const_data_ptr<float>()}, weight.size(0)};
}

Matrix<specbench::Int8> int8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales) {
  check_weight(weight, at::kChar);
  check_rows(x, weight.size(1));
  check_scales(scales, at::kFloat, {weight.size(0)});
  return {{weight.const_data_ptr<int8_t>(), scales.const_data_ptr<float>()}, weight.size(0)};
}

Matrix<specbench::Int4> int4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                             const at::Tensor& offsets) {
  check_weight(weight, at::kByte);
  const int64_t k = weight.size(1) * 2, groups = k / specbench::GROUP;
  TORCH_CHECK(k % specbench::GROUP == 0, "rows of ", k, " weights are not whole groups of 32");
  check_rows(x, k);
  check_scales(scales, at::kHalf, {weight.size(0), groups});
  check_scales(offsets, at::kHalf, {weight.size(0), groups});
  return {{weight.const_data_ptr<uint8_t>(), scales.const_data_ptr<at::Half>(), offsets.const_data_ptr<at::Half>(),
           groups},
          weight.size(0)};
}

at::Tensor linear_float32(const at::Tensor& x, const at::Tensor& weight) {
  return multiply<specbench::Float32>(x, {float32(x, weight)}, weight.size(1));
}

at::Tensor linear_int8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales) {
  return multiply<specbench::Int8>(x, {int8(x, weight, scales)}, weight.size(1));
}

at::Tensor linear_int4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                       const at::Tensor& offsets) {
  return multiply<specbench::Int4>(x, {int4(x, weight, scales, offsets)}, weight.size(1) * 2);
}

// x times each weight, side by side: in float32 by our kernel up to as many rows of x as all of `widest` allow.
at::Tensor products(const at::Tensor& x, at::TensorList weights, at::TensorList scales, at::TensorList offsets,
                    at::IntArrayRef widest) {
  const size_t count = weights.size();
  TORCH_CHECK(count > 0 && (scales.empty() ? widest.size() == count : scales.size() == count) &&
                  (offsets.empty() || offsets.size() == count),
              "every weight has its scales and offsets, or its widest product");
  if (!offsets.empty()) {
    std::vector<Matrix<specbench::Int4>> matrices;
    for (size_t i = 0; i < count; ++i) matrices.push_back(int4(x, weights[i], scales[i], offsets[i]));
    return multiply(x, std::move(matrices), x.size(-1));
  }
  if (!scales.empty()) {
    std::vector<Matrix<specbench::Int8>> matrices;
    for (size_t i = 0; i < count; ++i) matrices.push_back(int8(x, weights[i], scales[i]));
    return multiply(x, std::move(matrices), x.size(-1));
  }
  const int64_t n = x.numel() / std::max<int64_t>(x.size(-1), 1);
  if (n <= *std::min_element(widest.begin(), widest.end())) {
    std::vector<Matrix<specbench::Float32>> matrices;
    for (size_t i = 0; i < count; ++i) matrices.push_back(float32(x, weights[i]));
    return multiply(x, std::move(matrices), x.size(-1));
  }
  const auto one = [&](size_t i) { return n <= widest[i] ? linear_float32(x, weights[i]) : at::linear(x, weights[i]); };
  if (count == 1) return one(0);
  int64_t columns = 0;
  for (const at::Tensor& weight : weights) columns += weight.size(0);
  at::Tensor out = result(x, columns);
  for (size_t i = 0, column = 0; i < count; column += weights[i++].size(0))
    out.narrow(-1, column, weights[i].size(0)).copy_(one(i));
  return out;
}

}  // namespace

// Compiled passes call this without the dispatcher, whose tables the weights push out of the caches.
extern "C" AOTITorchError aoti_torch_cpu_products(AtenTensorHandle x, const AtenTensorHandle* weights, int64_t count,
                                                  const AtenTensorHandle* scales, int64_t scale_count,
                                                  const AtenTensorHandle* offsets, int64_t offset_count,
                                                  const int64_t* widest, int64_t widest_count,
                                                  AtenTensorHandle* product) {
  using namespace torch::aot_inductor;
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    const auto list = [](const AtenTensorHandle* handles, int64_t length) {
      std::vector<at::Tensor> tensors;
      for (int64_t i = 0; i < length; ++i) tensors.push_back(*tensor_handle_to_tensor_pointer(handles[i]));
      return tensors;
    };
    *product = new_tensor_handle(products(*tensor_handle_to_tensor_pointer(x), list(weights, count),
                                          list(scales, scale_count), list(offsets, offset_count),
                                          {widest, static_cast<size_t>(widest_count)}));
  });
}

TORCH_LIBRARY(specbench, library) {
  library.def("linear(Tensor x, Tensor weight) -> Tensor");
  library.def("linear_int8(Tensor x, Tensor weight, Tensor scales) -> Tensor");
  library.def("linear_int4(Tensor x, Tensor weight, Tensor scales, Tensor offsets) -> Tensor");
  library.def("products(Tensor x, Tensor[] weights, Tensor[] scales, Tensor[] offsets, int[] widest) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("linear", &linear_float32);
  library.impl("linear_int8", &linear_int8);
  library.impl("linear_int4", &linear_int4);
  library.impl("products", &products);
}
