// Pieces of work for threads: each begins with a share of its own and then takes from the others'.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "team.h"

namespace specbench {

struct alignas(LINE) Share {
  std::atomic<int64_t> next;
  int64_t end;
};

// Threads that share `count` pieces, of which `fewest` are worth one more.
inline int64_t sharers(int64_t count, int64_t fewest) {
  const Team* team = Team::current();
  const int64_t most = team ? team->members() : at::in_parallel_region() ? 1 : at::get_num_threads();
  return std::max<int64_t>(std::min({most, count / fewest, MAX_TEAM}), 1);
}

// Calls work(begin, end) until all `count` pieces are done, `claimed` at a time. A thread that comes late, or whose
// memory is slower for a moment, leaves the rest of its share to the others, so that none waits long.
template <class Work>
void share(int64_t count, int64_t fewest, int64_t claimed, const Work& work) {
  const int64_t threads = sharers(count, fewest);
  if (threads <= 1) {
    if (count > 0) work(0, count);
    return;
  }
  std::array<Share, MAX_TEAM> shares;
  for (int64_t i = 0; i < threads; ++i) {
    shares[i].next.store(count * i / threads, std::memory_order_relaxed);
    shares[i].end = count * (i + 1) / threads;
  }
  const auto take = [&](int64_t member) {
    for (int64_t i = 0; i < threads; ++i) {
      Share& mine = shares[(member + i) % threads];
      for (;;) {
        const int64_t begin = mine.next.fetch_add(claimed, std::memory_order_relaxed);
        if (begin >= mine.end) break;
        work(begin, std::min(begin + claimed, mine.end));
      }
    }
  };
  if (Team* team = Team::current()) {
    team->run(take);
  } else {
    at::parallel_for(0, threads, 1, [&](int64_t member, int64_t) { take(member); });
  }
}

}  // namespace specbench
