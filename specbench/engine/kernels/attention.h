// Causal attention over a cache of fixed size, every query row computed as if it were alone.
//
// The lanes of a vector stand for numbers of a head while scores are added up, and for keys while they are
// turned into weights. Rows share what is read, never a sum, so that a row's bits do not depend on its company.

#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "alibi.h"
#include "exponential.h"
#include "linear.h"

namespace specbench {

template <class Wide>
struct Lanes {
  typedef Wide type __attribute__((vector_size(LANES * sizeof(Wide)), aligned(sizeof(Wide)), may_alias));
};

// Keys or values of one head: rows of `size` numbers, `stride` apart, read in blocks of LANES rows.
template <class Wide, class Stored>
struct Rows {
  const Stored* data;
  int64_t stride, size;

  int64_t padded() const { return (size + LANES - 1) / LANES * LANES; }
  // The rows [begin, begin + count) as Wide, `row_stride` apart, padded with zeros; copied only where they must.
  const Wide* block(int64_t begin, int64_t count, Wide* scratch, int64_t& row_stride) const {
    const Stored* from = data + begin * stride;
    if constexpr (std::is_same_v<Wide, Stored>) {
      if (size % LANES == 0) {
        row_stride = stride;
        return from;
      }
    }
    row_stride = padded();
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t d = 0; d < size; ++d) scratch[row * row_stride + d] = static_cast<Wide>(from[row * stride + d]);
      for (int64_t d = size; d < row_stride; ++d) scratch[row * row_stride + d] = 0;
    }
    return scratch;
  }
};

constexpr int64_t MAX_TILE = 4, MIN_TILE = 2;  // queries that share the reading of keys and values

// What attention does beside being causal. A row sees its `window` newest keys alone, its own included, or those of
// its own `chunk` of the text; 0 is all. Scores are squashed to less than `cap`, unless that is 0. A head's sink is
// a score that takes its share of the weights and has no value. With ALiBi a head adds its slope times the distance
// of a key; `rounded` as of `lean`.
struct Within {
  int64_t window = 0, chunk = 0;
  double cap = 0;
  std::vector<double> sinks, slopes;
  bool rounded = false;

  // The first that the last of so many keys on a path sees.
  int64_t begin(int64_t visible) const {
    if (chunk) return (visible - 1) / chunk * chunk;
    return window ? std::max<int64_t>(visible - window, 0) : 0;
  }
  // Keys that are read for rows of which the last sees so many.
  int64_t read(int64_t longest, int64_t width) const {
    const int64_t most = chunk ? chunk : window;
    return most ? std::min(longest, most + width) : longest;
  }
};

// The same for each query of a tile.
template <class Wide>
struct Edges {
  int64_t begins[MAX_TILE], visible[MAX_TILE];
  Wide sinks[MAX_TILE], slopes[MAX_TILE], cap;
  bool rounded;

  void set(int64_t query, const Within& within, int64_t length, uint64_t seen, int64_t head) {
    visible[query] = length - std::bit_width(seen) + std::popcount(seen);
    begins[query] = within.begin(visible[query]);
    constexpr Wide none = -std::numeric_limits<Wide>::infinity();
    sinks[query] = within.sinks.empty() ? none : static_cast<Wide>(within.sinks[head]);
    slopes[query] = within.slopes.empty() ? 0 : static_cast<Wide>(within.slopes[head]);
    cap = static_cast<Wide>(within.cap);
    rounded = within.rounded;
  }
};

// What one thread needs beside its operands, allocated once.
template <class Wide>
struct Scratch {
  std::vector<Wide> queries, scores, copied;
};

// Scores of QUERIES queries with LANES keys each, of which `count` exist; the others repeat the last.
template <int QUERIES, class Wide>
inline __attribute__((always_inline)) void score_block(const Wide* queries, int64_t padded, const Wide* keys,
                                                       int64_t stride, int64_t count, Wide* scores,
                                                       int64_t scores_stride) {
  using V = typename Lanes<Wide>::type;
  alignas(64) Wide parts[QUERIES][LANES][LANES];
  for (int64_t k = 0; k < LANES; ++k) {
    const Wide* key = keys + std::min(k, count - 1) * stride;
    V sums[QUERIES] = {};
    for (int64_t d = 0; d < padded; d += LANES) {
      const V part = *reinterpret_cast<const V*>(key + d);
#pragma GCC unroll 4
      for (int q = 0; q < QUERIES; ++q) sums[q] += *reinterpret_cast<const V*>(queries + q * padded + d) * part;
    }
#pragma GCC unroll 4
    for (int q = 0; q < QUERIES; ++q) *reinterpret_cast<V*>(parts[q][k]) = sums[q];
  }
  for (int q = 0; q < QUERIES; ++q)
    for (int k = 0; k < LANES; ++k) scores[q * scores_stride + k] = total<LANES>(parts[q][k]);
}

// Moves the numbers of those that a row sees of its tree (bits of `seen`) together; returns how many they are.
template <class Wide>
inline int64_t gather(Wide* row, uint64_t seen) {
  int64_t count = 0;
  for (; seen; seen &= seen - 1) row[count++] = row[std::countr_zero(seen)];
  return count;
}

// Moves them back, and leaves zeros for those that it does not see.
template <class Wide>
inline void scatter(Wide* row, uint64_t seen) {
  int64_t count = std::popcount(seen);
  for (int64_t place = std::bit_width(seen); place-- > 0;) row[place] = seen >> place & 1 ? row[--count] : 0;
}

// out[q] = attention of QUERIES queries over the first lengths[q] keys; they share the reading of keys and values.
// Bits of seen[q], the highest for the row's own key, say which of the last ones it sees; zero is all. Weights are
// added up as if the others were not there, so that a row of a tree has the bits of its path read as a chain.
// Only where WITHIN, `edges` are looked at. Reading then begins with a whole number of blocks left out, and what a
// row does not see of the rest has no weight, so that a sum does not depend on where it begins.
template <int QUERIES, bool WITHIN, class Wide, class Stored>
__attribute__((noinline)) void attend_tile(const Stored* const* queries, const int64_t* lengths,
                                           const uint64_t* seen, const Rows<Wide, Stored>& keys,
                                           const Rows<Wide, Stored>& values, Wide scale, const Edges<Wide>& edges,
                                           Stored* const* out, Scratch<Wide>& scratch) {
  using V = typename Lanes<Wide>::type;
  const int64_t longest = *std::max_element(lengths, lengths + QUERIES);
  int64_t lead = 0;
  if constexpr (WITHIN) {
    lead = longest;
    for (int q = 0; q < QUERIES; ++q)  // a tree is read from its root, to be moved together
      lead = std::min({lead, edges.begins[q], lengths[q] - static_cast<int64_t>(std::bit_width(seen[q]))});
    lead = lead / LANES * LANES;
  }
  const int64_t columns = (longest + LANES - 1) / LANES * LANES - lead;
  const int64_t padded = keys.padded(), value_padded = values.padded();
  scratch.queries.assign(QUERIES * padded, 0);
  scratch.scores.resize(QUERIES * columns);
  scratch.copied.resize(LANES * std::max(padded, value_padded));
  Wide *scaled = scratch.queries.data(), *scores = scratch.scores.data();
  for (int q = 0; q < QUERIES; ++q)
    for (int64_t d = 0; d < keys.size; ++d) scaled[q * padded + d] = static_cast<Wide>(queries[q][d]) * scale;
  int64_t stride;
  for (int64_t begin = lead; begin < longest; begin += LANES) {
    const int64_t count = std::min<int64_t>(LANES, longest - begin);
    const Wide* block = keys.block(begin, count, scratch.copied.data(), stride);
    score_block<QUERIES>(scaled, padded, block, stride, count, scores + begin - lead, columns);
  }
  if constexpr (WITHIN)
    if (edges.cap > 0)
      squash(scores, QUERIES * columns, edges.cap);
  Wide inverse[QUERIES];
  for (int q = 0; q < QUERIES; ++q) {
    Wide* row = scores + q * columns;
    Wide* tree = row + lengths[q] - lead - std::bit_width(seen[q]);
    std::fill(tree + gather(tree, seen[q]), row + columns, -std::numeric_limits<Wide>::infinity());
    if constexpr (WITHIN) {
      if (edges.slopes[q] != 0)
        lean(row, columns, lead, edges.visible[q], edges.slopes[q], edges.rounded, scale);
      std::fill(row, row + edges.begins[q] - lead, -std::numeric_limits<Wide>::infinity());
    }
    Wide highest[LANES];
    std::copy_n(row, LANES, highest);
    for (int64_t begin = LANES; begin < columns; begin += LANES)
      for (int lane = 0; lane < LANES; ++lane) highest[lane] = std::max(highest[lane], row[begin + lane]);
    Wide top = *std::max_element(highest, highest + LANES);
    if constexpr (WITHIN) top = std::max(top, edges.sinks[q]);
    Wide sum = weigh(row, columns, top);
    if constexpr (WITHIN) sum += exponential(edges.sinks[q] - top);
    inverse[q] = 1 / sum;
    scatter(tree, seen[q]);
  }
  constexpr int PARTS = 4;  // vectors of a value that are added up at a time, in registers
  for (int64_t d = 0; d < value_padded; d += PARTS * LANES) {
    const int parts = static_cast<int>(std::min<int64_t>(PARTS, (value_padded - d) / LANES));
    V sums[QUERIES][PARTS] = {};
    for (int64_t begin = lead; begin < longest; begin += LANES) {
      const int64_t count = std::min<int64_t>(LANES, longest - begin);
      const Wide* block = values.block(begin, count, scratch.copied.data(), stride) + d;
      auto add = [&](auto fixed) __attribute__((always_inline)) {
        for (int64_t k = 0; k < count; ++k)
#pragma GCC unroll 4
          for (int part = 0; part < (fixed ? PARTS : parts); ++part) {
            const V value = *reinterpret_cast<const V*>(block + k * stride + part * LANES);
#pragma GCC unroll 4
            for (int q = 0; q < QUERIES; ++q) sums[q][part] += (V{} + scores[q * columns + begin - lead + k]) * value;
          }
      };
      if (parts == PARTS) add(std::true_type{});
      else add(std::false_type{});
    }
    for (int q = 0; q < QUERIES; ++q)
      for (int part = 0; part < parts; ++part) {
        const Wide* from = reinterpret_cast<const Wide*>(&sums[q][part]);
        const int64_t at = d + part * LANES, stop = std::min<int64_t>(LANES, values.size - at);
        for (int64_t lane = 0; lane < stop; ++lane) out[q][at + lane] = static_cast<Stored>(from[lane] * inverse[q]);
      }
  }
}

template <bool WITHIN, class Wide, class Stored>
void attend_queries(int64_t count, const Stored* const* queries, const int64_t* lengths, const uint64_t* seen,
                    const Rows<Wide, Stored>& keys, const Rows<Wide, Stored>& values, Wide scale,
                    const Edges<Wide>& edges, Stored* const* out, Scratch<Wide>& scratch) {
  const auto tile = [&](auto queries_of_tile) {
    attend_tile<queries_of_tile(), WITHIN>(queries, lengths, seen, keys, values, scale, edges, out, scratch);
  };
  switch (count) {
    case 1: return tile(std::integral_constant<int, 1>{});
    case 2: return tile(std::integral_constant<int, 2>{});
    case 3: return tile(std::integral_constant<int, 3>{});
    default: return tile(std::integral_constant<int, 4>{});
  }
}

}  // namespace specbench
