// The operators torch.ops.specbench.attend and attend_within, for the CPU.

#include <ATen/Dispatch.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/library.h>

#include <type_traits>

#include "attention.h"
#include "shares.h"
#include "within.h"

namespace {

constexpr int64_t FEWEST_PRODUCTS = 16384;     // fewer are not worth waking a thread
constexpr int64_t FEWEST_OF_AWAKE = 2048;      // or calling one that is there

// Causal attention of `query` (1, heads, width, size) over a cache whose `keys` and `values` (1, key heads,
// capacity, size) hold the same tokens already. `places` (3, width) begins with how many stand before them; its
// last row says what each sees of the tree that the cache ends with, a bit for each token of that up to itself,
// and zero where all of the cache is a chain. Only where WITHIN, `within` is looked at. Returns (1, width, heads, size).
template <bool WITHIN>
at::Tensor attended(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                    const at::Tensor& places, double scale, const specbench::Within& within) {
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
  at::Tensor out = at::detail::empty_cpu({1, width, heads, value_size}, query.scalar_type());
  // Queries that share a key head are its group's heads, row by row; a tile of them is one piece of work.
  const int64_t key_heads = keys.size(1), queries = group * width, threads = at::get_num_threads();
  using specbench::MAX_TILE, specbench::MIN_TILE;
  const int64_t tile = key_heads * ((queries + MAX_TILE - 1) / MAX_TILE) >= 2 * threads ? MAX_TILE : MIN_TILE;
  const int64_t tiles = (queries + tile - 1) / tile;
  const int64_t read = WITHIN ? within.read(first + width, width) : first + width;
  const int64_t fewest = specbench::Team::current() ? FEWEST_OF_AWAKE : FEWEST_PRODUCTS;
  const int64_t grain = fewest / (read * (key_size + value_size) * tile + 1) + 1;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, query.scalar_type(), "attend", [&] {
    using Wide = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t* from = query.const_data_ptr<scalar_t>();
    const scalar_t* key = keys.const_data_ptr<scalar_t>();
    const scalar_t* value = values.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    specbench::share(key_heads * tiles, grain, 1, [&](int64_t begin, int64_t end) {
      static thread_local specbench::Scratch<Wide> scratch;
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t key_head = piece / tiles, lead = piece % tiles * tile;
        const int64_t count = std::min(tile, queries - lead);
        const scalar_t* inputs[MAX_TILE];
        scalar_t* outputs[MAX_TILE];
        int64_t lengths[MAX_TILE];
        uint64_t seen[MAX_TILE];
        specbench::Edges<Wide> edges;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t row = (lead + i) / group, head = key_head * group + (lead + i) % group;
          inputs[i] = from + head * query.stride(1) + row * query.stride(2);
          outputs[i] = to + (row * heads + head) * value_size;
          lengths[i] = first + row + 1;
          seen[i] = static_cast<uint64_t>(place[2 * width + row]);
          if constexpr (WITHIN) edges.set(i, within, lengths[i], seen[i], head);
        }
        const specbench::Rows<Wide, scalar_t> k{key + key_head * keys.stride(1), keys.stride(2), key_size};
        const specbench::Rows<Wide, scalar_t> v{value + key_head * values.stride(1), values.stride(2), value_size};
        specbench::attend_queries<WITHIN, Wide, scalar_t>(count, inputs, lengths, seen, k, v,
                                                          static_cast<Wide>(scale), edges, outputs, scratch);
      }
    });
  });
  return out;
}

at::Tensor attend(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                  const at::Tensor& places, double scale) {
  return attended<false>(query, keys, values, places, scale, {});
}

at::Tensor attend_within(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                         const at::Tensor& places, double scale, int64_t window, int64_t chunk, double cap,
                         at::TensorList sinks, at::TensorList slopes, int64_t rounded) {
  return attended<true>(query, keys, values, places, scale,
                        specbench::within(window, chunk, cap, sinks, slopes, rounded, query.size(1)));
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

extern "C" AOTITorchError aoti_torch_cpu_attend_within(AtenTensorHandle query, AtenTensorHandle keys,
                                                       AtenTensorHandle values, AtenTensorHandle places, double scale,
                                                       int64_t window, int64_t chunk, double cap,
                                                       const AtenTensorHandle* sinks, int64_t sink_count,
                                                       const AtenTensorHandle* slopes, int64_t slope_count,
                                                       int64_t rounded, AtenTensorHandle* attended) {
  using namespace torch::aot_inductor;
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    const auto list = [](const AtenTensorHandle* handles, int64_t count) {
      std::vector<at::Tensor> tensors;
      for (int64_t i = 0; i < count; ++i) tensors.push_back(*tensor_handle_to_tensor_pointer(handles[i]));
      return tensors;
    };
    *attended = new_tensor_handle(attend_within(
        *tensor_handle_to_tensor_pointer(query), *tensor_handle_to_tensor_pointer(keys),
        *tensor_handle_to_tensor_pointer(values), *tensor_handle_to_tensor_pointer(places), scale, window, chunk, cap,
        list(sinks, sink_count), list(slopes, slope_count), rounded));
  });
}

TORCH_LIBRARY_FRAGMENT(specbench, library) {
  library.def("attend(Tensor query, Tensor keys, Tensor values, Tensor places, float scale) -> Tensor");
  library.def(
      "attend_within(Tensor query, Tensor keys, Tensor values, Tensor places, float scale, int window, int chunk, "
      "float cap, Tensor[] sinks, Tensor[] slopes, int rounded) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("attend", &attend);
  library.impl("attend_within", &attend_within);
}
