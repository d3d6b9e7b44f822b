// Functions of numbers in attention.

#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "vectors.h"

namespace specbench {

// exp(x) of each lane, for x <= 0; Cephes' polynomial (Moshier 1989); 0 below the smallest float. In the compilers'
// vector types, since GCC makes scalar code of it where vectors are wide.
inline __attribute__((always_inline)) Vec exponential(Vec x) {
  const Vec least = Vec{} - 87.0f, clamped = x > least ? x : least;
  const Vec scaled = clamped * 1.44269504088896341f + 0.5f;
  const Vec cut = __builtin_convertvector(__builtin_convertvector(scaled, Ints), Vec);
  const Vec n = cut > scaled ? cut - 1.0f : cut;  // the integer below
  const Vec r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  Vec p = Vec{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Vec power = (Vec)((__builtin_convertvector(n, Ints) + 127) << 23);
  return x > least ? p * power : Vec{};
}
inline float exponential(float x) { return exponential(Vec{} + x)[0]; }
inline double exponential(double x) { return std::exp(x); }

inline __attribute__((always_inline)) Vec hyperbolic_tangent(Vec x) {
  const Vec e = exponential(x < 0.0f ? 2.0f * x : -2.0f * x), size = (1.0f - e) / (1.0f + e);
  return x < 0.0f ? -size : size;
}

// The sum of SIZE numbers, pairwise.
template <int SIZE, class Wide>
inline __attribute__((always_inline)) Wide total(const Wide* numbers) {
  if constexpr (SIZE == 1) {
    return *numbers;
  } else {
    Wide halves[SIZE / 2];
    for (int i = 0; i < SIZE / 2; ++i) halves[i] = numbers[i] + numbers[i + SIZE / 2];
    return total<SIZE / 2>(halves);
  }
}

// Squashes whole vectors of scores to less than `cap`.
template <class Wide>
__attribute__((noinline)) void squash(Wide* scores, int64_t count, Wide cap) {
  if constexpr (std::is_same_v<Wide, float>) {
    for (int64_t at = 0; at < count; at += LANES) {
      Vec& squashed = *reinterpret_cast<Vec*>(scores + at);
      squashed = cap * hyperbolic_tangent(squashed / cap);
    }
  } else {
    for (int64_t at = 0; at < count; ++at) scores[at] = cap * std::tanh(scores[at] / cap);
  }
}

// Replaces scores by exp(score - top), whole vectors of them; returns the sum. One code serves rows alone and in
// company.
template <class Wide>
__attribute__((noinline)) Wide weigh(Wide* scores, int64_t count, Wide top) {
  if constexpr (std::is_same_v<Wide, float>) {
    Vec sums = {};
    for (int64_t at = 0; at < count; at += LANES) {
      Vec& weights = *reinterpret_cast<Vec*>(scores + at);
      weights = exponential(weights - top);
      sums += weights;
    }
    return total<LANES>(reinterpret_cast<const float*>(&sums));
  } else {
    Wide sums[LANES] = {};
    for (int64_t at = 0; at < count; ++at) sums[at % LANES] += scores[at] = exponential(scores[at] - top);
    return total<LANES>(sums);
  }
}

}  // namespace specbench
