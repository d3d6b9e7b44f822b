// What attention does beside being causal, from the arguments of an operator.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/to.h>

#include <vector>

#include "attention.h"

namespace specbench {

// The number of each head, where there are some.
inline std::vector<double> of_heads(at::TensorList given, int64_t heads, const char* name) {
  if (given.empty()) return {};
  TORCH_CHECK(given.size() == 1 && given[0].numel() == heads, "each of ", heads, " heads has one ", name);
  const at::Tensor numbers = given[0].to(at::kDouble).contiguous();
  return {numbers.const_data_ptr<double>(), numbers.const_data_ptr<double>() + heads};
}

inline Within within(int64_t window, int64_t chunk, double cap, at::TensorList sinks, at::TensorList slopes,
                     int64_t rounded, int64_t heads) {
  return {window, chunk, cap, of_heads(sinks, heads, "sink"), of_heads(slopes, heads, "slope"), rounded != 0};
}

}  // namespace specbench
