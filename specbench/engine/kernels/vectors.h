// Vectors of LANES float32, as many as a register holds, and what makes them of stored numbers: in the vector types
// of GCC and Clang, which any processor has, and by name where the compilers make scalar code of those.

#pragma once

#include <c10/util/Half.h>

#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace specbench {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

using c10::Half;
typedef float Vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

// Sign-extends LANES bytes.
inline __attribute__((always_inline)) Ints widen(const int8_t* from) {
#if defined(__AVX512F__)
  return (Ints)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
  Ints wide;
  for (int lane = 0; lane < LANES; ++lane) wide[lane] = from[lane];
  return wide;
#endif
}

// Zero-extends LANES bytes.
inline __attribute__((always_inline)) Ints widen(const uint8_t* from) {
#if defined(__AVX512F__)
  return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
  Ints wide;
  for (int lane = 0; lane < LANES; ++lane) wide[lane] = from[lane];
  return wide;
#endif
}

#if defined(__aarch64__)
// Sixteen signed bytes as four vectors of float32.
inline __attribute__((always_inline)) void widen(int8x16_t bytes, Vec* into) {
  const int16x8_t first = vmovl_s8(vget_low_s8(bytes)), last = vmovl_high_s8(bytes);
  into[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(first)));
  into[1] = vcvtq_f32_s32(vmovl_high_s16(first));
  into[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(last)));
  into[3] = vcvtq_f32_s32(vmovl_high_s16(last));
}
#endif

// Float16 numbers as float32, whole vectors first.
inline void widen(const Half* from, int64_t count, float* into) {
  int64_t at = 0;
#if defined(__AVX512F__)
  for (; at + 16 <= count; at += 16)
    _mm512_storeu_ps(into + at, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at))));
#elif defined(__F16C__)
  for (; at + 8 <= count; at += 8)
    _mm256_storeu_ps(into + at, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at))));
#endif
  for (; at < count; ++at) into[at] = from[at];
}

template <int SIZE>
inline __attribute__((always_inline)) float add_up(const float* lanes) {
  typedef float Half __attribute__((vector_size(SIZE * 2), aligned(4), may_alias));
  Half sum = *reinterpret_cast<const Half*>(lanes) + *reinterpret_cast<const Half*>(lanes + SIZE / 2);
  float halves[SIZE / 2];
  *reinterpret_cast<Half*>(halves) = sum;
  return add_up<SIZE / 2>(halves);
}
template <>
inline __attribute__((always_inline)) float add_up<1>(const float* lanes) {
  return *lanes;
}
template <>
inline __attribute__((always_inline)) float add_up<2>(const float* lanes) {
  return lanes[0] + lanes[1];
}

}  // namespace specbench
