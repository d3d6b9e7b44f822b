// ALiBi (Press et al. 2022): scores that fall with the distance of a key, in each head by a slope of its own.

#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

#include "vectors.h"

namespace specbench {

// Adds ALiBi to the scores of a row that sees so many keys, of which `row` begins with key `first`. Where it is
// `rounded`, a key's place is multiplied, both are rounded to bfloat16, and the scale of scores comes behind, as in
// Falcon. Not inlined, so that all tiles add by the same instructions.
template <class Wide>
__attribute__((noinline)) void lean(Wide* row, int64_t columns, int64_t first, int64_t visible, Wide slope,
                                    bool rounded, Wide scale) {
  const auto narrow = [](float number) { return static_cast<float>(c10::BFloat16(number)); };
  for (int64_t begin = 0; begin < columns; begin += LANES)
    for (int lane = 0; lane < LANES; ++lane) {
      const int64_t place = first + begin + lane;
      row[begin + lane] += rounded ? scale * narrow(static_cast<float>(slope) * narrow(static_cast<float>(place)))
                                   : slope * static_cast<Wide>(place + 1 - visible);
    }
}

}  // namespace specbench
