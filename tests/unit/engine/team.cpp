// Teams of more threads than there are cores: every piece is done once, whoever throws, and nobody stays behind.

#include <cstdio>
#include <stdexcept>

#include "shares.h"

using namespace specbench;

constexpr int PIECES = 97, JOBS = 300, PASSES = 40;

int main() {
  bool right = true;
  for (int threads : {1, 2, 3, 8, 16}) {
    at::set_num_threads(threads);
    Order order;
    for (int pass = 0; pass < PASSES; ++pass) {
      const bool throws = pass % 10 == 9;
      bool thrown = false;
      try {
        Team(order).together([&] {
          for (int job = 0; job < JOBS; ++job) {
            std::vector<std::atomic<int>> done(PIECES);
            Team::current()->place().reads.assign(
                threads, {reinterpret_cast<const char*>(done.data()), PIECES * int64_t{sizeof(done[0])}});
            share(PIECES, 1, 3, [&](int64_t begin, int64_t end) {
              for (; begin < end; ++begin) {
                ++done[begin];
                if (throws && job == JOBS / 2 && begin == 60) throw std::runtime_error("a piece that fails");
              }
            });
            for (const auto& count : done) right &= count == 1;
          }
        });
      } catch (const std::runtime_error&) {
        thrown = true;
      }
      right &= thrown == throws && Team::current() == nullptr && order.places.size() == JOBS;
    }
  }
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
