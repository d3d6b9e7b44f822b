// The operator torch.ops.specbench.attend_slots, for the CPU: one new token for each of many sequences.
//
// The heads of a group share what is read. Lanes stand for numbers of a head; the sums of sixteen keys are folded
// into one vector, so that no key is summed up alone.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <type_traits>
#include <vector>

#include "attention.h"

namespace {

constexpr int LANES = 16;  // two or four registers where the processor has no wider ones
typedef float V __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Order __attribute__((vector_size(LANES * 4)));

inline V read(const float* from) { return *reinterpret_cast<const V*>(from); }

inline V read(const at::BFloat16* from) {
  typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));
  typedef uint32_t Words __attribute__((vector_size(64)));
  const Words words = __builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words) << 16;
  return (V)words;
}

inline __attribute__((always_inline)) V picked(V first, V second, Order order) {
#if defined(__clang__)
  V found;
  for (int lane = 0; lane < LANES; ++lane)
    found[lane] = order[lane] < LANES ? first[order[lane]] : second[order[lane] - LANES];
  return found;
#else
  return __builtin_shuffle(first, second, order);
#endif
}

// Lane i of the result is the sum of all lanes of sums[i].
inline __attribute__((always_inline)) V folded(V* sums) {
  constexpr Order FIRST[] = {{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23},
                             {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27},
                             {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29},
                             {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}};
#pragma GCC unroll 4
  for (int level = 0; level < 4; ++level) {
    const int half = 8 >> level;
    const Order second = FIRST[level] + half;
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      sums[i] = picked(sums[i], sums[i + half], FIRST[level]) + picked(sums[i], sums[i + half], second);
  }
  return sums[0];
}

// Adds to `scores` what PARTS vectors of a query and of sixteen keys give; those beyond `count` repeat the last.
template <int QUERIES, int PARTS, class Stored>
inline void score(const V (&query)[QUERIES][PARTS], const Stored* keys, int64_t size, int64_t count, float* scores,
                  int64_t columns) {
  V sums[QUERIES][LANES];
#pragma GCC unroll 16
  for (int k = 0; k < LANES; ++k) {
    V key[PARTS];
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; ++part)
      key[part] = read(keys + std::min<int64_t>(k, count - 1) * size + part * LANES);
#pragma GCC unroll 4
    for (int q = 0; q < QUERIES; ++q) {
      V sum = query[q][0] * key[0];
#pragma GCC unroll 4
      for (int part = 1; part < PARTS; ++part) sum += query[q][part] * key[part];
      sums[q][k] = sum;
    }
  }
  for (int q = 0; q < QUERIES; ++q) *reinterpret_cast<V*>(scores + q * columns) += folded(sums[q]);
}

// Calls work(PARTS, lead) for the vectors of a head, four at a time and then one: so many stay in registers.
template <class Work>
void by_parts(int64_t parts, const Work& work) {
  int64_t lead = 0;
  for (; lead + 4 <= parts; lead += 4) work(std::integral_constant<int, 4>{}, lead * LANES);
  for (; lead < parts; ++lead) work(std::integral_constant<int, 1>{}, lead * LANES);
}

// Attention of QUERIES queries of `size` numbers each, side by side, over the first `length` keys.
template <int QUERIES, class Stored>
void attend_one(const Stored* queries, const Stored* keys, const Stored* values, int64_t length, int64_t size,
                float scale, Stored* out, std::vector<float>& scratch) {
  const int64_t columns = (length + LANES - 1) / LANES * LANES;
  scratch.assign(QUERIES * columns, 0.0f);
  float* scores = scratch.data();
  by_parts(size / LANES, [&](auto parts, int64_t lead) {
    constexpr int PARTS = decltype(parts)::value;
    V query[QUERIES][PARTS];
    for (int q = 0; q < QUERIES; ++q)
      for (int part = 0; part < PARTS; ++part)
        query[q][part] = read(queries + q * size + lead + part * LANES) * scale;
    for (int64_t begin = 0; begin < columns; begin += LANES)
      score<QUERIES, PARTS, Stored>(query, keys + begin * size + lead, size, length - begin, scores + begin, columns);
  });
  float inverse[QUERIES];
  for (int q = 0; q < QUERIES; ++q) {
    float* row = scores + q * columns;
    std::fill(row + length, row + columns, -std::numeric_limits<float>::infinity());
    float highest[LANES];
    std::copy_n(row, LANES, highest);
    for (int64_t begin = LANES; begin < columns; begin += LANES)
      for (int lane = 0; lane < LANES; ++lane) highest[lane] = std::max(highest[lane], row[begin + lane]);
    const float top = *std::max_element(highest, highest + LANES);
    inverse[q] = 1 / specbench::weigh(row, columns, top);
  }
  by_parts(size / LANES, [&](auto parts, int64_t lead) {
    constexpr int PARTS = decltype(parts)::value;
    V sums[QUERIES][PARTS] = {};
    for (int64_t k = 0; k < length; ++k)
#pragma GCC unroll 4
      for (int part = 0; part < PARTS; ++part) {
        const V numbers = read(values + k * size + lead + part * LANES);
#pragma GCC unroll 4
        for (int q = 0; q < QUERIES; ++q) sums[q][part] += scores[q * columns + k] * numbers;
      }
    for (int q = 0; q < QUERIES; ++q)
      for (int part = 0; part < PARTS; ++part)
        for (int lane = 0; lane < LANES; ++lane)
          out[q * size + lead + part * LANES + lane] = static_cast<Stored>(sums[q][part][lane] * inverse[q]);
  });
}

// Attention of `query` (rows, heads, size), one token of each sequence, over `keys` and `values` (slots, key heads,
// capacity, size) of which row r sees the first `lengths`[r] of slot r. Returns (rows, heads, size).
at::Tensor attend_slots(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                        const at::Tensor& lengths, double scale) {
  const int64_t rows = query.size(0), heads = query.size(1), size = query.size(2);
  const int64_t key_heads = keys.size(1), capacity = keys.size(2), group = heads / key_heads;
  TORCH_CHECK(query.is_contiguous() && keys.is_contiguous() && values.is_contiguous() && lengths.is_contiguous() &&
                  keys.sizes() == values.sizes() && keys.size(3) == size && size % LANES == 0 &&
                  rows <= keys.size(0) && lengths.numel() == rows && heads == group * key_heads,
              "query, keys, values and lengths do not fit each other");
  const int64_t* length = lengths.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row)
    TORCH_CHECK(length[row] > 0 && length[row] <= capacity, "a slot of ", capacity, " holds ", length[row]);
  at::Tensor out = at::empty(query.sizes(), query.options());
  const auto attend = [&](auto kind) {
    using Stored = decltype(kind);
    const Stored *from = query.const_data_ptr<Stored>(), *key = keys.const_data_ptr<Stored>();
    const Stored* value = values.const_data_ptr<Stored>();
    Stored* to = out.mutable_data_ptr<Stored>();
    at::parallel_for(0, rows * key_heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t place = begin; place < end; ++place) {
        const int64_t row = place / key_heads, first = place * capacity * size;
        const auto tile = [&](auto queries, int64_t lead) {
          const int64_t at = (place * group + lead) * size;
          attend_one<decltype(queries)::value>(from + at, key + first, value + first, length[row], size,
                                               static_cast<float>(scale), to + at, scratch);
        };
        int64_t lead = 0;
        for (; group - lead >= 4; lead += 4) tile(std::integral_constant<int, 4>{}, lead);
        switch (group - lead) {
          case 3: tile(std::integral_constant<int, 3>{}, lead); break;
          case 2: tile(std::integral_constant<int, 2>{}, lead); break;
          case 1: tile(std::integral_constant<int, 1>{}, lead); break;
          default: break;
        }
      }
    });
  };
  TORCH_CHECK(query.scalar_type() == keys.scalar_type(), "query and cache differ in dtype");
  if (query.scalar_type() == at::kFloat) attend(float{});
  else if (query.scalar_type() == at::kBFloat16) attend(at::BFloat16{});
  else TORCH_CHECK(false, "attend_slots computes in float32 and bfloat16");
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(specbench, library) {
  library.def("attend_slots(Tensor query, Tensor keys, Tensor values, Tensor lengths, float scale) -> Tensor");
}

TORCH_LIBRARY_IMPL(specbench, CPU, library) { library.impl("attend_slots", &attend_slots); }
