// Our kernels' headers without torch's libraries, for processors that are not at hand: products and attention
// against plain loops, and each row alone against the same row in company.

#include <c10/util/BFloat16.h>

#include <cstdio>

#include "attention.h"

using namespace specbench;

bool failed = false;

void expect(bool right, const char* what, int64_t size) {
  if (!right) std::printf("%s of %d is wrong\n", what, static_cast<int>(size));
  failed |= !right;
}

double number(int64_t seed) { return static_cast<double>(seed * 7919 % 2003) / 1000 - 1; }

constexpr int64_t OUTPUTS = 29;  // more than two blocks of rows, and odd

// `dense` (OUTPUTS, k) are the numbers that the weights stand for.
template <class Weights>
void products(const char* what, const Weights& weights, const std::vector<double>& dense, int64_t k) {
  constexpr int64_t CHUNK = Weights::STEP * LANES, MOST = 2 * MAX_WIDTH + 1;
  const int64_t stride = (k + CHUNK - 1) / CHUNK * CHUNK;
  std::vector<float> x(MOST * stride), alone(MOST * OUTPUTS);
  for (int64_t i = 0; i < MOST; ++i)
    for (int64_t at = 0; at < k; ++at) x[i * stride + at] = static_cast<float>(number(i * k + at));
  for (int64_t i = 0; i < MOST; ++i) {
    linear(weights, 0, OUTPUTS, &x[i * stride], stride, 1, k, &alone[i * OUTPUTS], OUTPUTS);
    for (int64_t row = 0; row < OUTPUTS; ++row) {
      double sum = 0, magnitude = 0;
      for (int64_t at = 0; at < k; ++at) {
        const double product = x[i * stride + at] * dense[row * k + at];
        sum += product;
        magnitude += std::fabs(product);
      }
      const double bound = 2 * (k + 2) * std::numeric_limits<float>::epsilon() * magnitude + 1e-30;
      expect(std::fabs(alone[i * OUTPUTS + row] - sum) <= bound, what, k);
    }
  }
  for (int64_t n = 2; n <= MOST; ++n) {
    std::vector<float> together(n * OUTPUTS);
    linear(weights, 0, OUTPUTS, x.data(), stride, n, k, together.data(), OUTPUTS);
    expect(std::equal(together.begin(), together.end(), alone.begin()), what, k);
  }
}

void all_products(int64_t k) {
  std::vector<float> numbers(OUTPUTS * k), scales(OUTPUTS);
  std::vector<int8_t> eights(OUTPUTS * k);
  std::vector<double> dense(OUTPUTS * k), dense_eights(OUTPUTS * k);
  for (int64_t row = 0; row < OUTPUTS; ++row) scales[row] = static_cast<float>(number(row) / 50);
  for (int64_t i = 0; i < OUTPUTS * k; ++i) {
    dense[i] = numbers[i] = static_cast<float>(number(3 * i + 1));
    eights[i] = static_cast<int8_t>(i * 7919 % 255 - 127);
    dense_eights[i] = static_cast<double>(eights[i]) * scales[i / k];
  }
  products("float32", Float32{numbers.data()}, dense, k);
  products("int8", Int8{eights.data(), scales.data()}, dense_eights, k);
  if (k % GROUP) return;
  const int64_t groups = k / GROUP;
  std::vector<uint8_t> fours(OUTPUTS * k / 2);
  std::vector<Half> steps(OUTPUTS * groups), offsets(OUTPUTS * groups);
  for (int64_t i = 0; i < OUTPUTS * groups; ++i) {
    steps[i] = static_cast<float>(number(i) / 9);
    offsets[i] = static_cast<float>(number(5 * i + 2) / 70000);  // some are below the smallest normal one
  }
  for (int64_t i = 0; i < OUTPUTS * k / 2; ++i) fours[i] = static_cast<uint8_t>(i * 7919 % 256);
  for (int64_t i = 0; i < OUTPUTS * k; ++i) {
    const int64_t group = i / GROUP, place = i % GROUP;
    const int code = fours[group * GROUP / 2 + place % (GROUP / 2)] >> (place < GROUP / 2 ? 0 : 4) & 15;
    dense[i] = static_cast<double>(static_cast<float>(offsets[group])) + static_cast<float>(steps[group]) * code;
  }
  products("int4", Int4{fours.data(), steps.data(), offsets.data(), groups}, dense, k);
}

constexpr int64_t ROWS = 4, KEYS = 77, SIZE = 40, VALUE_SIZE = 72;
constexpr double SCALE = 0.7;

template <class Stored>
struct Attention {
  const char* what;
  Within within;
  const uint64_t seen[ROWS] = {0, 0b1, 0b1101, 0b10011};
  std::vector<Stored> queries{}, keys{}, values{};

  static std::vector<Stored> drawn(int64_t count, int64_t seed) {
    std::vector<Stored> found(count);
    for (int64_t i = 0; i < count; ++i) found[i] = static_cast<Stored>(static_cast<float>(number(seed * i + 1)));
    return found;
  }
  int64_t length(int64_t row) const { return KEYS - ROWS + 1 + row; }

  template <bool WITHIN>
  std::vector<Stored> attend(int64_t first, int64_t count) const {
    using Wide = float;
    const Rows<Wide, Stored> k{keys.data(), SIZE, SIZE}, v{values.data(), VALUE_SIZE, VALUE_SIZE};
    std::vector<Stored> out(count * VALUE_SIZE);
    const Stored* from[ROWS];
    Stored* to[ROWS];
    int64_t lengths[ROWS];
    Edges<Wide> edges;
    for (int64_t i = 0; i < count; ++i) {
      from[i] = &queries[(first + i) * SIZE];
      to[i] = &out[i * VALUE_SIZE];
      lengths[i] = length(first + i);
      edges.set(i, within, lengths[i], seen[first + i], first + i);
    }
    Scratch<Wide> scratch;
    attend_queries<WITHIN, Wide, Stored>(count, from, lengths, seen + first, k, v, SCALE, edges, to, scratch);
    return out;
  }

  std::vector<double> plain(int64_t row) const {
    std::vector<int64_t> path;
    const int64_t tree = length(row) - std::bit_width(seen[row]);
    for (int64_t key = 0; key < length(row); ++key)
      if (key < tree || seen[row] >> (key - tree) & 1) path.push_back(key);
    path.erase(path.begin(), path.begin() + within.begin(path.size()));
    double sum = within.sinks.empty() ? 0 : std::exp(within.sinks[row]);
    std::vector<double> out(VALUE_SIZE);
    for (int64_t key : path) {
      double score = 0;
      for (int64_t d = 0; d < SIZE; ++d) score += double(queries[row * SIZE + d]) * double(keys[key * SIZE + d]);
      score *= SCALE;
      if (within.cap) score = within.cap * std::tanh(score / within.cap);
      sum += std::exp(score);
      for (int64_t d = 0; d < VALUE_SIZE; ++d) out[d] += std::exp(score) * double(values[key * VALUE_SIZE + d]);
    }
    for (double& each : out) each /= sum;
    return out;
  }

  template <bool WITHIN>
  void check() {
    queries = drawn(ROWS * SIZE, 3);
    keys = drawn(KEYS * SIZE, 5);
    values = drawn(KEYS * VALUE_SIZE, 11);
    const double rounding = 16 * (sizeof(Stored) == 4 ? std::numeric_limits<float>::epsilon() : 1.0 / 4096);
    for (int64_t row = 0; row < ROWS; ++row) {
      const auto alone = attend<WITHIN>(row, 1);
      const auto right = plain(row);
      for (int64_t d = 0; d < VALUE_SIZE; ++d) expect(std::fabs(double(alone[d]) - right[d]) <= rounding, what, row);
      for (int64_t first = 0; first <= row; ++first)
        for (int64_t count = row - first + 1; first + count <= ROWS; ++count) {
          const auto together = attend<WITHIN>(first, count);
          expect(std::equal(alone.begin(), alone.end(), together.begin() + (row - first) * VALUE_SIZE), what, row);
        }
    }
  }
};

int main() {
  for (int64_t k : {7, 96, 576, 1537}) all_products(k);
  const std::vector<double> sinks = {-1, 0.5, 2, 4};
  Attention<float>{"attention", {}}.check<false>();
  Attention<c10::BFloat16>{"attention in bfloat16", {}}.check<false>();
  Attention<Half>{"attention in float16", {}}.check<false>();
  Attention<float>{"attention in a window", {21, 0, 0, {}}}.check<true>();
  Attention<float>{"attention in a chunk", {0, 32, 0, {}}}.check<true>();
  Attention<float>{"attention with cap and sinks", {0, 0, 1.5, sinks}}.check<true>();
  if (!failed) std::puts("all right");
}
