// Products of a few rows with a large matrix: every weight is read once, and every row of the result is
// added up in one fixed order, whatever the number of rows or threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "vectors.h"

namespace specbench {

constexpr int AHEAD = 16384;  // bytes, where several rows are read at a time; tried: 2,048 to 65,536
constexpr int NEAR = 2048;    // where one is; tried: 512 to 16,384
constexpr int MAX_WIDTH = 8;
constexpr int LINE = 64;
constexpr int GROUP = 32;
constexpr int BLOCK_ROWS = 12;
constexpr int WIDE_ROWS = 3;  // the most rows at a time that fit the registers beside eight sums

// Whether one or two rows of x meet rows of float32 weights one by one: a single stream, which some processors read
// faster than two side by side (AMD Zen 4: 62 GB/s in place of 48). The numbers are the same either way.
inline std::atomic<bool> one_by_one{false};

// Into the second cache: the first one waits for so few lines at a time that two cores read 25 GB/s through it
// where memory gives 35 to 60 (AMD Zen 5).
template <int DISTANCE, class T>
inline __attribute__((always_inline)) void fetch(const T* place) {
  __builtin_prefetch(reinterpret_cast<const char*>(place) + DISTANCE, 0, 2);
}

// Weights of one matrix row after row; `load` gives STEP vectors of float32 from a row's position onward. Of them
// NARROW_ROWS rows are read at a time for a few rows of x: the fewest streams that memory likes, and for small
// weights enough sums beside each other that none waits for the one before.
// `fetch` asks for the bytes DISTANCE ahead of them: the processor's own prefetching stops at the end of a page.
struct Float32 {
  using Stored = float;
  static constexpr int STEP = LINE / 4 / LANES, PER_ITEM = 1, NARROW_ROWS = 2;
  const float* data;

  void begin(int64_t, int64_t) {}
  template <int DISTANCE>
  inline __attribute__((always_inline)) void load(const float* from, int64_t, int64_t, Vec* into) const {
    fetch<DISTANCE>(from);
    for (int part = 0; part < STEP; ++part) into[part] = *reinterpret_cast<const Vec*>(from + part * LANES);
  }
  inline float finish(int64_t, float sum) const { return sum; }
};

struct Int8 {
  using Stored = int8_t;
  static constexpr int STEP = LINE / LANES, PER_ITEM = 1, NARROW_ROWS = 4;
  const int8_t* data;
  const float* scales;

  void begin(int64_t, int64_t) {}
  template <int DISTANCE>
  inline __attribute__((always_inline)) void load(const int8_t* from, int64_t, int64_t, Vec* into) const {
    fetch<DISTANCE>(from);
#if defined(__aarch64__)
    for (int part = 0; part < STEP; part += 4) widen(vld1q_s8(from + part * LANES), into + part);
#else
    for (int part = 0; part < STEP; ++part) {
      into[part] = __builtin_convertvector(widen(from + part * LANES), Vec);
    }
#endif
  }
  inline float finish(int64_t row, float sum) const { return sum * scales[row]; }
};

// Groups of 32 weights of a row share a scale and an offset. Byte i of a group's 16 holds weight i in its low
// half and weight 16 + i in its high half; a weight is offset + scale * code.
struct Int4 {
  using Stored = uint8_t;
  static constexpr int STEP = GROUP / LANES, PER_ITEM = 2, NARROW_ROWS = 4;
  const uint8_t* data;
  const Half* scales;
  const Half* offsets;
  int64_t groups;
  std::vector<float> scale{}, offset{};  // of the rows from `first` on, as float32
  int64_t first = 0;

  void begin(int64_t row, int64_t count) {
    first = row;
    scale.resize(BLOCK_ROWS * groups);
    offset.resize(BLOCK_ROWS * groups);
    widen(scales + row * groups, count * groups, scale.data());
    widen(offsets + row * groups, count * groups, offset.data());
  }
  template <int DISTANCE>
  inline __attribute__((always_inline)) void load(const uint8_t* from, int64_t row, int64_t position,
                                                  Vec* into) const {
    fetch<DISTANCE>(from);
    const int64_t group = (row - first) * groups + position / GROUP;
#if defined(__aarch64__)
    const uint8x16_t codes = vld1q_u8(from);
    widen(vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15))), into);
    widen(vreinterpretq_s8_u8(vshrq_n_u8(codes, 4)), into + STEP / 2);
    for (int part = 0; part < STEP; ++part) into[part] = scale[group] * into[part] + offset[group];
#else
    for (int part = 0; part < STEP / 2; ++part) {
      Ints codes = widen(from + part * LANES);
      into[part] = value(codes, scale[group], offset[group]);
      into[part + STEP / 2] = value(codes >> 4, scale[group], offset[group]);
    }
#endif
  }
  static inline __attribute__((always_inline)) Vec value(Ints codes, float scale, float offset) {
#if defined(__AVX512F__)
    // A table of all sixteen values: looking up ignores the higher bits of a code.
    const Vec all = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (Vec)_mm512_permutexvar_ps((__m512i)codes, (__m512)(scale * all + offset));
#else
    return scale * __builtin_convertvector(codes & 15, Vec) + offset;
#endif
  }
  inline float finish(int64_t, float sum) const { return sum; }
};

// out[i, row .. row + ROWS) for WIDTH rows i of x.
template <int ROWS, int WIDTH, int DISTANCE, class Weights>
inline void tile(const Weights& weights, int64_t row, const float* x, int64_t x_stride, int64_t k, float* out,
                 int64_t out_stride) {
  using Stored = typename Weights::Stored;
  constexpr int CHUNK = Weights::STEP * LANES;
  const int64_t row_items = k / Weights::PER_ITEM, whole = k / CHUNK * CHUNK;
  const Stored* from = weights.data + row * row_items;
  Vec sums[ROWS][WIDTH] = {};
  auto add = [&](const Stored* place, int64_t stride, int64_t position) __attribute__((always_inline)) {
    Vec parts[ROWS][Weights::STEP];
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r)
      weights.template load<DISTANCE>(place + r * stride, row + r, position, parts[r]);
#pragma GCC unroll 16
    for (int part = 0; part < Weights::STEP; ++part)
#pragma GCC unroll 16
      for (int i = 0; i < WIDTH; ++i) {
        Vec value = *reinterpret_cast<const Vec*>(x + i * x_stride + position + part * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) sums[r][i] += parts[r][part] * value;
      }
  };
  for (int64_t position = 0; position < whole; position += CHUNK)
    add(from + position / Weights::PER_ITEM, row_items, position);
  if (whole < k) {
    Stored rest[ROWS][CHUNK] = {};
    for (int r = 0; r < ROWS; ++r)
      memcpy(rest[r], from + r * row_items + whole / Weights::PER_ITEM,
             (k - whole) / Weights::PER_ITEM * sizeof(Stored));
    add(rest[0], CHUNK, whole);
  }
#pragma GCC unroll 16
  for (int i = 0; i < WIDTH; ++i)
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r)
      out[i * out_stride + row + r] =
          weights.finish(row + r, add_up<LANES>(reinterpret_cast<const float*>(&sums[r][i])));
}

template <int WIDTH, class Weights>
void rows(const Weights& weights, int64_t begin, int64_t end, const float* x, int64_t x_stride, int64_t k,
          float* out, int64_t out_stride) {
  constexpr int ROWS = WIDTH > 4 ? WIDE_ROWS : Weights::NARROW_ROWS;
  int64_t row = begin;
  if constexpr (WIDTH <= 2 && std::is_same_v<Weights, Float32>) {
    if (one_by_one.load(std::memory_order_relaxed))
      for (; row < end; ++row) tile<1, WIDTH, NEAR>(weights, row, x, x_stride, k, out, out_stride);
  }
  for (; row + ROWS <= end; row += ROWS) tile<ROWS, WIDTH, AHEAD>(weights, row, x, x_stride, k, out, out_stride);
  for (; row < end; ++row) tile<1, WIDTH, AHEAD>(weights, row, x, x_stride, k, out, out_stride);
}

// out[n, begin .. end) = x[n, k] times rows [begin, end) of the weights. `x` is padded with zeros to x_stride.
template <class Weights>
void linear(Weights weights, int64_t begin, int64_t end, const float* x, int64_t x_stride, int64_t n,
            int64_t k, float* out, int64_t out_stride) {
  for (int64_t row = begin; row < end; row += BLOCK_ROWS) {
    const int64_t stop = std::min(row + BLOCK_ROWS, end);
    weights.begin(row, stop - row);
    for (int64_t i = 0; i < n; i += MAX_WIDTH) {
      const float* from = x + i * x_stride;
      float* to = out + i * out_stride;
      switch (std::min<int64_t>(n - i, MAX_WIDTH)) {
        case 1: rows<1>(weights, row, stop, from, x_stride, k, to, out_stride); break;
        case 2: rows<2>(weights, row, stop, from, x_stride, k, to, out_stride); break;
        case 3: rows<3>(weights, row, stop, from, x_stride, k, to, out_stride); break;
        case 4: rows<4>(weights, row, stop, from, x_stride, k, to, out_stride); break;
        case 5: rows<5>(weights, row, stop, from, x_stride, k, to, out_stride); break;
        case 6: rows<6>(weights, row, stop, from, x_stride, k, to, out_stride); break;
        case 7: rows<7>(weights, row, stop, from, x_stride, k, to, out_stride); break;
        default: rows<8>(weights, row, stop, from, x_stride, k, to, out_stride);
      }
    }
  }
}

}  // namespace specbench
