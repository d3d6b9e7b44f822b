// The threads of one pass: they stay together from its first product to its last, so that a product costs no
// waking, and read ahead in the weights of the next one while the first thread does what lies between.

#pragma once

#include <ATen/Parallel.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "linear.h"

namespace specbench {

constexpr int64_t MAX_TEAM = 64;
constexpr int64_t READ_AHEAD = 384 << 10;  // bytes; they must stay in the second cache until they are used
constexpr int LINES_AT_ONCE = 8;           // then a thread looks whether there is work
constexpr int SPINS = 2000;                // then it lets another process have the core

inline void rest(int& idle) {
  if (++idle > SPINS) {
    std::this_thread::yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Where each thread begins to read for a product, and how many bytes lie there side by side.
struct Stretch {
  const char* begin = nullptr;
  int64_t bytes = 0;
};

// A product of a pass: whose it is, how it was prepared, and what each thread reads of it first.
struct Place {
  std::vector<const void*> operands;
  std::shared_ptr<const void> prepared;
  std::vector<Stretch> reads;
};

// Products in the order in which a pass makes them: every pass of a program has the same.
struct Order {
  std::vector<Place> places;
  size_t at = 0;
};

class Team {
 public:
  explicit Team(Order& order) : order(order) {}

  // The one whose pass the calling thread makes.
  static Team*& current() {
    static thread_local Team* team = nullptr;
    return team;
  }

  // Calls `pass` with the other threads at hand.
  template <class Pass>
  void together(const Pass& pass) {
    order.at = 0;
#pragma omp parallel num_threads(std::min<int64_t>(at::get_num_threads(), MAX_TEAM))
    {
      if (omp_get_thread_num() == 0) {
        size = omp_get_num_threads();
        current() = this;
        try {
          pass();
        } catch (...) {
          failure = std::current_exception();
        }
        current() = nullptr;
        state.store(ENDED, std::memory_order_release);
      } else {
        serve(omp_get_thread_num());
      }
    }
    if (failure) std::rethrow_exception(failure);
  }

  int64_t members() const { return size; }

  // That of the next `run`; the pass before left in it what it prepared.
  Place& place() {
    if (order.at == order.places.size()) order.places.emplace_back();
    return order.places[order.at++];
  }

  // Calls work(member) for this thread and those that are free. Whoever comes late finds the work done.
  template <class Work>
  void run(const Work& work) {
    call = [](const void* given, int member) { (*static_cast<const Work*>(given))(member); };
    context = &work;
    state.store(++number << 8 | OPEN, std::memory_order_release);
    guarded(0);
    state.fetch_and(~OPEN, std::memory_order_acq_rel);
    int idle = 0;
    while (state.load(std::memory_order_acquire) & INSIDE) rest(idle);
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
  }

 private:
  static constexpr uint64_t OPEN = 128, INSIDE = 127, ENDED = ~uint64_t{0} << 8;

  void serve(int member) {
    uint64_t done = 0;
    Stretch ahead;
    int idle = 0;
    for (;;) {
      uint64_t now = state.load(std::memory_order_acquire);
      if (now == ENDED) return;
      if (now & OPEN && now >> 8 != done) {
        if (!state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
        done = now >> 8;
        ahead = next(member);
        ahead.bytes = std::min(ahead.bytes, READ_AHEAD);
        guarded(member);
        state.fetch_sub(1, std::memory_order_release);
        idle = 0;
      } else if (ahead.bytes > 0) {
        for (int line = 0; line < LINES_AT_ONCE; ++line) __builtin_prefetch(ahead.begin + line * LINE, 0, 2);
        ahead.begin += LINES_AT_ONCE * LINE;
        ahead.bytes -= LINES_AT_ONCE * LINE;
      } else {
        rest(idle);
      }
    }
  }

  // What this thread reads first of the product behind the one at hand.
  Stretch next(int member) const {
    if (order.at >= order.places.size()) return {};
    const auto& reads = order.places[order.at].reads;
    return member < static_cast<int>(reads.size()) ? reads[member] : Stretch{};
  }

  void guarded(int member) {
    try {
      call(context, member);
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }

  Order& order;
  int64_t size = 1;
  uint64_t number = 0;
  void (*call)(const void*, int) = nullptr;
  const void* context = nullptr;
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  alignas(LINE) std::atomic<uint64_t> state{0};  // number of the work, whether it is open, how many are inside
};

}  // namespace specbench
