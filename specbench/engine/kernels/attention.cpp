// The operator torch.ops.specbench.attend, for the CPU.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/library.h>

#include <type_traits>

#include "attention.h"

namespace {

constexpr int64_t FEWEST_PRODUCTS = 16384;  // fewer are not worth waking a thread

// Causal attention of `query` (1, heads, width, size) over a cache whose `keys` and `values` (1, key heads,
// capacity, size) hold the same tokens already. `places` (3, width) begins with how many stand before them; its
// last row says what each sees of the tree that the cache ends with, a bit for each token of that up to itself,
// and zero where all of the cache is a chain. Returns (1, width, heads, size).
at::Tensor attend(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                  const at::Tensor& places, double scale) {
  const int64_t heads = query.size(1), width = query.size(2), key_size = query.size(3);
  const int64_t value_size = values.size(3), group = heads / keys.size(1);
  TORCH_CHECK(places.is_contiguous() && places.dim() == 2 && places.size(0) == 3 && places.size(1) == width,
              "a pass over ", width, " tokens takes three numbers for each");
  const int64_t* place = places.const_data_ptr<int64_t>();
  const int64_t first = *place;
  TORCH_CHECK(first >= 0 && first + width <= keys.size(2), "positions ", first, " to ", first + width,
              " lie outside a cache of ", keys.size(2));
  TORCH_CHECK(query.stride(3) == 1 && keys.stride(3) == 1 && values.stride(3) == 1,
              "the numbers of a head must lie side by side");
  at::Tensor out = at::empty({1, width, heads, value_size}, query.options());
  // Queries that share a key head are its group's heads, row by row; a tile of them is one piece of work.
  const int64_t key_heads = keys.size(1), queries = group * width, threads = at::get_num_threads();
  using specbench::MAX_TILE, specbench::MIN_TILE;
  const int64_t tile = key_heads * ((queries + MAX_TILE - 1) / MAX_TILE) >= 2 * threads ? MAX_TILE : MIN_TILE;
  const int64_t tiles = (queries + tile - 1) / tile;
  const int64_t grain = FEWEST_PRODUCTS / ((first + width) * (key_size + value_size) * tile + 1) + 1;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, query.scalar_type(), "attend", [&] {
    using Wide = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t* from = query.const_data_ptr<scalar_t>();
    const scalar_t* key = keys.const_data_ptr<scalar_t>();
    const scalar_t* value = values.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, key_heads * tiles, grain, [&](int64_t begin, int64_t end) {
      specbench::Scratch<Wide> scratch;
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t key_head = piece / tiles, lead = piece % tiles * tile;
        const int64_t count = std::min(tile, queries - lead);
        const scalar_t* inputs[MAX_TILE];
        scalar_t* outputs[MAX_TILE];
        int64_t lengths[MAX_TILE];
        uint64_t seen[MAX_TILE];
        for (int64_t i = 0; i < count; ++i) {
          const int64_t row = (lead + i) / group, head = key_head * group + (lead + i) % group;
          inputs[i] = from + head * query.stride(1) + row * query.stride(2);
          outputs[i] = to + (row * heads + head) * value_size;
          lengths[i] = first + row + 1;
          seen[i] = static_cast<uint64_t>(place[2 * width + row]);
        }
        const specbench::Rows<Wide, scalar_t> k{key + key_head * keys.stride(1), keys.stride(2), key_size};
        const specbench::Rows<Wide, scalar_t> v{value + key_head * values.stride(1), values.stride(2), value_size};
        specbench::attend_queries<Wide, scalar_t>(count, inputs, lengths, seen, k, v, static_cast<Wide>(scale),
                                                  outputs, scratch);
      }
    });
  });
  return out;
}

}  // namespace

extern "C" AOTITorchError aoti_torch_cpu_attend(AtenTensorHandle query, AtenTensorHandle keys, AtenTensorHandle values,
                                                AtenTensorHandle places, double scale,
                                                AtenTensorHandle* attended) {
  using namespace torch::aot_inductor;
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    *attended = new_tensor_handle(
        attend(*tensor_handle_to_tensor_pointer(query), *tensor_handle_to_tensor_pointer(keys),
               *tensor_handle_to_tensor_pointer(values), *tensor_handle_to_tensor_pointer(places), scale));
  });
}

TORCH_LIBRARY_FRAGMENT(specbench, library) {
  library.def("attend(Tensor query, Tensor keys, Tensor values, Tensor places, float scale) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("attend", &attend);
}
