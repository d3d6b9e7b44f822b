// The operators torch.ops.specbench.attend_packed and attend_packed_within, for the CPU: attention of several
// sequences in one pass.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <type_traits>
#include <vector>

#include "attention.h"
#include "shares.h"
#include "within.h"

namespace {

constexpr int64_t FEWEST_PRODUCTS = 16384;  // fewer are not worth waking a thread

// One sequence's part of a pass: `width` rows of it from `lead` on, which stand at `start` onward in its cache.
template <class Stored>
struct Sequence {
  int64_t lead, width, start, capacity;
  Stored *keys, *values;
};

// `count` queries of one sequence and one key head, of its group's heads row by row, from `lead` on.
struct Piece {
  int64_t sequence, key_head, lead, count;
};

template <class Stored>
void store(const at::Tensor& from, const Sequence<Stored>& sequence, Stored* to) {
  const int64_t size = from.size(3);
  const Stored* numbers = from.const_data_ptr<Stored>();
  for (int64_t head = 0; head < from.size(1); ++head)
    for (int64_t row = 0; row < sequence.width; ++row)
      std::copy_n(numbers + head * from.stride(1) + (sequence.lead + row) * from.stride(2), size,
                  to + (head * sequence.capacity + sequence.start + row) * size);
}

template <class Stored>
std::vector<Sequence<Stored>> sequences(const at::Tensor& spans, const at::Tensor& addresses, int64_t layer,
                                        int64_t width) {
  const int64_t layers = addresses.size(1) / 2;
  const int64_t* span = spans.const_data_ptr<int64_t>();
  const int64_t* address = addresses.const_data_ptr<int64_t>();
  std::vector<Sequence<Stored>> found;
  int64_t lead = 0;
  for (int64_t i = 0; i < spans.size(0); ++i, span += 3, address += 2 * layers) {
    TORCH_CHECK(span[0] > 0 && span[1] >= 0 && span[1] + span[0] <= span[2], "positions ", span[1], " to ",
                span[1] + span[0], " lie outside a cache of ", span[2]);
    found.push_back({lead, span[0], span[1], span[2], reinterpret_cast<Stored*>(address[layer]),
                     reinterpret_cast<Stored*>(address[layers + layer])});
    lead += span[0];
  }
  TORCH_CHECK(lead == width, "sequences of ", lead, " tokens in a pass over ", width);
  return found;
}

// Causal attention of `query` (1, heads, width, size). `places` (3, width) says in its last row what each sees of
// its sequence's tree, as for `attend`. `spans` (sequences, 3) says of each sequence how many of the
// rows are its own, where in its cache they stand, and what that holds; `addresses` (sequences, 2 * layers) where
// the keys of its layers lie, then their values, each (1, key heads, capacity, size). `key` and `value` of this
// pass are written there first. Only where WITHIN, `within` is looked at. Returns (1, width, heads, size).
template <bool WITHIN>
at::Tensor attended(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                    const at::Tensor& places, const at::Tensor& spans, const at::Tensor& addresses, int64_t layer,
                    double scale, const specbench::Within& within) {
  const int64_t heads = query.size(1), width = query.size(2), key_heads = key.size(1);
  const int64_t key_size = key.size(3), value_size = value.size(3), group = heads / key_heads;
  TORCH_CHECK(query.stride(3) == 1 && key.stride(3) == 1 && value.stride(3) == 1,
              "the numbers of a head must lie side by side");
  TORCH_CHECK(spans.is_contiguous() && addresses.is_contiguous() && spans.size(1) == 3 &&
                  spans.size(0) == addresses.size(0) && 2 * layer < addresses.size(1),
              "a sequence takes three numbers, and the addresses of its layers");
  TORCH_CHECK(places.is_contiguous() && places.dim() == 2 && places.size(0) == 3 && places.size(1) == width,
              "a pass over ", width, " tokens takes three numbers for each");
  const int64_t* sees = places.const_data_ptr<int64_t>() + 2 * width;
  at::Tensor out = at::empty({1, width, heads, value_size}, query.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, query.scalar_type(), "attend_packed", [&] {
    using Wide = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    using specbench::MAX_TILE, specbench::MIN_TILE;
    const auto parts = sequences<scalar_t>(spans, addresses, layer, width);
    for (const auto& part : parts) {
      store(key, part, part.keys);
      store(value, part, part.values);
    }
    const int64_t tile = key_heads * group * width >= 2 * MAX_TILE * at::get_num_threads() ? MAX_TILE : MIN_TILE;
    std::vector<Piece> pieces;
    int64_t products = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(parts.size()); ++i)
      for (int64_t head = 0; head < key_heads; ++head)
        for (int64_t lead = 0; lead < group * parts[i].width; lead += tile) {
          pieces.push_back({i, head, lead, std::min(tile, group * parts[i].width - lead)});
          const int64_t context = parts[i].start + parts[i].width;
          products += (WITHIN ? within.read(context, parts[i].width) : context) * (key_size + value_size) * tile;
        }
    const int64_t number = pieces.size(), grain = FEWEST_PRODUCTS * number / (products + 1) + 1;
    const scalar_t* from = query.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    specbench::share(number, grain, 1, [&](int64_t begin, int64_t end) {
      static thread_local specbench::Scratch<Wide> scratch;
      for (int64_t place = begin; place < end; ++place) {
        const Piece& piece = pieces[place];
        const Sequence<scalar_t>& part = parts[piece.sequence];
        const scalar_t* inputs[MAX_TILE];
        scalar_t* outputs[MAX_TILE];
        int64_t lengths[MAX_TILE];
        uint64_t seen[MAX_TILE];
        specbench::Edges<Wide> edges;
        for (int64_t i = 0; i < piece.count; ++i) {
          const int64_t row = (piece.lead + i) / group, head = piece.key_head * group + (piece.lead + i) % group;
          inputs[i] = from + head * query.stride(1) + (part.lead + row) * query.stride(2);
          outputs[i] = to + ((part.lead + row) * heads + head) * value_size;
          lengths[i] = part.start + row + 1;
          seen[i] = static_cast<uint64_t>(sees[part.lead + row]);
          if constexpr (WITHIN) edges.set(i, within, lengths[i], seen[i], head);
        }
        const int64_t first = piece.key_head * part.capacity;
        const specbench::Rows<Wide, scalar_t> k{part.keys + first * key_size, key_size, key_size};
        const specbench::Rows<Wide, scalar_t> v{part.values + first * value_size, value_size, value_size};
        specbench::attend_queries<WITHIN, Wide, scalar_t>(piece.count, inputs, lengths, seen, k, v,
                                                          static_cast<Wide>(scale), edges, outputs, scratch);
      }
    });
  });
  return out;
}

at::Tensor attend_packed(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const at::Tensor& places, const at::Tensor& spans, const at::Tensor& addresses,
                         int64_t layer, double scale) {
  return attended<false>(query, key, value, places, spans, addresses, layer, scale, {});
}

at::Tensor attend_packed_within(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                const at::Tensor& places, const at::Tensor& spans, const at::Tensor& addresses,
                                int64_t layer, double scale, int64_t window, int64_t chunk, double cap,
                                at::TensorList sinks, at::TensorList slopes, int64_t rounded) {
  return attended<true>(query, key, value, places, spans, addresses, layer, scale,
                        specbench::within(window, chunk, cap, sinks, slopes, rounded, query.size(1)));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(specbench, library) {
  library.def(
      "attend_packed(Tensor query, Tensor key, Tensor value, Tensor places, Tensor spans, Tensor addresses, "
      "int layer, float scale) -> Tensor");
  library.def(
      "attend_packed_within(Tensor query, Tensor key, Tensor value, Tensor places, Tensor spans, Tensor addresses, "
      "int layer, float scale, int window, int chunk, float cap, Tensor[] sinks, Tensor[] slopes, int rounded) "
      "-> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) {
  library.impl("attend_packed", &attend_packed);
  library.impl("attend_packed_within", &attend_packed_within);
}
