// The operators torch.ops.specbench.products, linear, linear_int8 and linear_int4, for the CPU.

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <variant>
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

void check_weight(const at::Tensor& weight, at::ScalarType type, int64_t columns) {
  TORCH_CHECK(weight.scalar_type() == type && weight.dim() == 2 && weight.is_contiguous(),
              "the weight must be a contiguous matrix of ", type);
  TORCH_CHECK(weight.size(1) == columns, "the weight has ", weight.size(1), " columns in place of ", columns);
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
  at::DimVector shape(x.sizes());
  shape.back() = columns;
  return at::detail::empty_cpu(shape, at::kFloat);  // without the dispatcher
}

// Matrices whose products with one x stand side by side, and how threads share their rows.
template <class Weights>
struct Plan {
  std::vector<Matrix<Weights>> matrices;
  int64_t k, columns = 0, blocks = 0, fewest, claimed;

  Plan(std::vector<Matrix<Weights>> given, int64_t k) : matrices(std::move(given)), k(k) {
    constexpr int64_t ROWS = specbench::BLOCK_ROWS;
    for (auto& matrix : matrices) {
      matrix.column = columns;
      matrix.block = blocks;
      columns += matrix.outputs;
      blocks += (matrix.outputs + ROWS - 1) / ROWS;
    }
    const int64_t weights = k * ROWS + 1, bytes = weights / Weights::PER_ITEM * sizeof(typename Weights::Stored);
    fewest = FEWEST_WEIGHTS / weights + 1;
    claimed = CLAIMED_BYTES / (bytes + 1) + 1;
  }

  // What each thread reads first.
  std::vector<specbench::Stretch> beginnings() const {
    const int64_t threads = specbench::sharers(blocks, fewest);
    std::vector<specbench::Stretch> found(threads);
    for (int64_t member = 0; member < threads; ++member) {
      for (const auto& matrix : matrices) {
        const int64_t row = (blocks * member / threads - matrix.block) * specbench::BLOCK_ROWS;
        if (row < 0 || row >= matrix.outputs) continue;
        const auto* place = matrix.weights.data + row * k / Weights::PER_ITEM;
        const auto* end = matrix.weights.data + matrix.outputs * k / Weights::PER_ITEM;
        found[member] = {reinterpret_cast<const char*>(place), (end - place) * int64_t{sizeof(*place)}};
      }
    }
    return found;
  }
};

// x times each matrix, side by side in the rows of the result; threads take blocks of rows until none is left.
template <class Weights>
at::Tensor multiply(const at::Tensor& x, const Plan<Weights>& plan) {
  constexpr int64_t CHUNK = Weights::STEP * specbench::LANES, ROWS = specbench::BLOCK_ROWS;
  check_rows(x, plan.k);
  const int64_t k = plan.k, columns = plan.columns;
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
  specbench::share(plan.blocks, plan.fewest, plan.claimed, [&](int64_t begin, int64_t end) {
    for (const auto& matrix : plan.matrices) {
      const int64_t first = std::max(begin - matrix.block, int64_t{0}) * ROWS;
      const int64_t stop = std::min((end - matrix.block) * ROWS, matrix.outputs);
      if (first < stop) specbench::linear(matrix.weights, first, stop, from, stride, n, k, to + matrix.column, columns);
    }
  });
  return out;
}

Matrix<specbench::Float32> float32(const at::Tensor& weight, int64_t k) {
  check_weight(weight, at::kFloat, k);
  return {{weight.const_data_ptr<float>()}, weight.size(0)};
}

Matrix<specbench::Int8> int8(const at::Tensor& weight, const at::Tensor& scales, int64_t k) {
  check_weight(weight, at::kChar, k);
  check_scales(scales, at::kFloat, {weight.size(0)});
  return {{weight.const_data_ptr<int8_t>(), scales.const_data_ptr<float>()}, weight.size(0)};
}

Matrix<specbench::Int4> int4(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& offsets,
                             int64_t k) {
  check_weight(weight, at::kByte, k / 2);
  TORCH_CHECK(k % specbench::GROUP == 0, "rows of ", k, " weights are not whole groups of 32");
  const int64_t groups = k / specbench::GROUP;
  check_scales(scales, at::kHalf, {weight.size(0), groups});
  check_scales(offsets, at::kHalf, {weight.size(0), groups});
  return {{weight.const_data_ptr<uint8_t>(), scales.const_data_ptr<at::Half>(), offsets.const_data_ptr<at::Half>(),
           groups},
          weight.size(0)};
}

at::Tensor linear_float32(const at::Tensor& x, const at::Tensor& weight) {
  const int64_t k = weight.size(-1);
  return multiply(x, Plan<specbench::Float32>({float32(weight, k)}, k));
}

at::Tensor linear_int8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales) {
  const int64_t k = weight.size(-1);
  return multiply(x, Plan<specbench::Int8>({int8(weight, scales, k)}, k));
}

at::Tensor linear_int4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                       const at::Tensor& offsets) {
  const int64_t k = weight.size(-1) * 2;
  return multiply(x, Plan<specbench::Int4>({int4(weight, scales, offsets, k)}, k));
}

using Operands = std::vector<const at::Tensor*>;

// Several matrices of one kind, for up to `widest` rows of x.
struct Prepared {
  std::variant<Plan<specbench::Float32>, Plan<specbench::Int8>, Plan<specbench::Int4>> plan;
  int64_t widest;

  Prepared(const Operands& weights, const Operands& scales, const Operands& offsets, at::IntArrayRef widest, int64_t k)
      : plan(planned(weights, scales, offsets, k)),
        widest(scales.empty() ? *std::min_element(widest.begin(), widest.end()) : int64_t{1} << 40) {}

  at::Tensor multiply(const at::Tensor& x) const {
    return std::visit([&](const auto& known) { return ::multiply(x, known); }, plan);
  }

 private:
  static decltype(plan) planned(const Operands& weights, const Operands& scales, const Operands& offsets, int64_t k) {
    const auto each = [&](auto matrix) {
      std::vector<decltype(matrix(0))> found;
      for (size_t i = 0; i < weights.size(); ++i) found.push_back(matrix(i));
      return found;
    };
    if (!offsets.empty())
      return Plan<specbench::Int4>(each([&](size_t i) { return int4(*weights[i], *scales[i], *offsets[i], k); }), k);
    if (!scales.empty())
      return Plan<specbench::Int8>(each([&](size_t i) { return int8(*weights[i], *scales[i], k); }), k);
    return Plan<specbench::Float32>(each([&](size_t i) { return float32(*weights[i], k); }), k);
  }
};

// x times each weight, side by side: in float32 by our kernel up to as many rows of x as all of `widest` allow.
at::Tensor products(const at::Tensor& x, const Operands& weights, const Operands& scales, const Operands& offsets,
                    at::IntArrayRef widest) {
  const size_t count = weights.size();
  TORCH_CHECK(count > 0 && (scales.empty() ? widest.size() == count : scales.size() == count) &&
                  (offsets.empty() || offsets.size() == count),
              "every weight has its scales and offsets, or its widest product");
  const int64_t n = x.numel() / std::max<int64_t>(x.size(-1), 1);
  if (!scales.empty() || n <= *std::min_element(widest.begin(), widest.end()))
    return Prepared(weights, scales, offsets, widest, x.size(-1)).multiply(x);
  const auto one = [&](size_t i) {
    return n <= widest[i] ? linear_float32(x, *weights[i]) : at::linear(x, *weights[i]);
  };
  if (count == 1) return one(0);
  int64_t columns = 0;
  for (const at::Tensor* weight : weights) columns += weight->size(0);
  at::Tensor out = result(x, columns);
  for (size_t i = 0, column = 0; i < count; column += weights[i++]->size(0))
    out.narrow(-1, column, weights[i]->size(0)).copy_(one(i));
  return out;
}

at::Tensor products_of_lists(const at::Tensor& x, at::TensorList weights, at::TensorList scales,
                             at::TensorList offsets, at::IntArrayRef widest) {
  const auto pointers = [](at::TensorList tensors) {
    Operands found;
    for (const at::Tensor& tensor : tensors) found.push_back(&tensor);
    return found;
  };
  return products(x, pointers(weights), pointers(scales), pointers(offsets), widest);
}

at::Tensor stored(const at::Tensor& x) { return x.clone(); }

}  // namespace

// Compiled passes call this without the dispatcher, whose tables the weights push out of the caches. So they do with
// the tensors of the weights: a pass of a team finds at its place what the one before prepared of the same handles.
extern "C" AOTITorchError aoti_torch_cpu_products(AtenTensorHandle x, const AtenTensorHandle* weights, int64_t count,
                                                  const AtenTensorHandle* scales, int64_t scale_count,
                                                  const AtenTensorHandle* offsets, int64_t offset_count,
                                                  const int64_t* widest, int64_t widest_count,
                                                  AtenTensorHandle* product) {
  using namespace torch::aot_inductor;
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    const auto list = [](const AtenTensorHandle* handles, int64_t length) {
      Operands tensors;
      for (int64_t i = 0; i < length; ++i) tensors.push_back(tensor_handle_to_tensor_pointer(handles[i]));
      return tensors;
    };
    const at::Tensor& rows = *tensor_handle_to_tensor_pointer(x);
    specbench::Team* team = specbench::Team::current();
    specbench::Place* place = team ? &team->place() : nullptr;
    if (place && !std::equal(place->operands.begin(), place->operands.end(), weights, weights + count)) {
      const auto prepared = std::make_shared<Prepared>(list(weights, count), list(scales, scale_count),
                                                       list(offsets, offset_count),
                                                       at::IntArrayRef(widest, widest_count), rows.size(-1));
      place->operands.assign(weights, weights + count);
      place->reads = std::visit([](const auto& plan) { return plan.beginnings(); }, prepared->plan);
      place->prepared = prepared;
    }
    const auto* prepared = place ? static_cast<const Prepared*>(place->prepared.get()) : nullptr;
    *product = new_tensor_handle(prepared && rows.numel() <= prepared->widest * rows.size(-1)
                                     ? prepared->multiply(rows)
                                     : products(rows, list(weights, count), list(scales, scale_count),
                                                list(offsets, offset_count), at::IntArrayRef(widest, widest_count)));
  });
}

extern "C" AOTITorchError aoti_torch_cpu_stored(AtenTensorHandle x, AtenTensorHandle* kept) {
  using namespace torch::aot_inductor;
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({ *kept = new_tensor_handle(stored(*tensor_handle_to_tensor_pointer(x))); });
}

TORCH_LIBRARY(specbench, library) {
  library.def("stored(Tensor x) -> Tensor");
  library.def("read_one_by_one(bool on) -> ()", [](bool on) { specbench::one_by_one = on; });
  library.def("linear(Tensor x, Tensor weight) -> Tensor");
  library.def("linear_int8(Tensor x, Tensor weight, Tensor scales) -> Tensor");
  library.def("linear_int4(Tensor x, Tensor weight, Tensor scales, Tensor offsets) -> Tensor");
  library.def("products(Tensor x, Tensor[] weights, Tensor[] scales, Tensor[] offsets, int[] widest) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("stored", &stored);
  library.impl("linear", &linear_float32);
  library.impl("linear_int8", &linear_int8);
  library.impl("linear_int4", &linear_int4);
  library.impl("products", &products_of_lists);
}
