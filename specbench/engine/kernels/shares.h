// Pieces of work for a team of threads: each begins with a share of its own and then takes from the others'.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace specbench {

constexpr int64_t MAX_TEAM = 64;

struct alignas(64) Share {
  std::atomic<int64_t> next;
  int64_t end;
};

// Calls work(begin, end) until all `count` pieces are done, `claimed` at a time. A thread that comes late, or whose
// memory is slower for a moment, leaves the rest of its share to the others, so that none waits long.
template <class Work>
void share(int64_t count, int64_t fewest, int64_t claimed, const Work& work) {
  const int64_t team = std::min({int64_t{at::get_num_threads()}, count / fewest, MAX_TEAM});
  if (team <= 1 || at::in_parallel_region()) {
    if (count > 0) work(0, count);
    return;
  }
  std::array<Share, MAX_TEAM> shares;
  for (int64_t i = 0; i < team; ++i) {
    shares[i].next.store(count * i / team, std::memory_order_relaxed);
    shares[i].end = count * (i + 1) / team;
  }
  at::parallel_for(0, team, 1, [&](int64_t from, int64_t) {
    for (int64_t i = 0; i < team; ++i) {
      Share& mine = shares[(from + i) % team];
      for (;;) {
        const int64_t begin = mine.next.fetch_add(claimed, std::memory_order_relaxed);
        if (begin >= mine.end) break;
        work(begin, std::min(begin + claimed, mine.end));
      }
    }
  });
}

}  // namespace specbench
