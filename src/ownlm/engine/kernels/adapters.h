// What adapters add to the products of a pass: y += B (A x), for the rows whose sequence has one.
//
// What a row sums, and in what order, depends on nothing but the row and its own adapter: its bits are the same in any
// company, and rows without an adapter keep theirs.
#pragma once

#include <vector>

#include "matrix.h"

// The projections of a block, as an adapter lists them.
enum Projection : int64_t { QKV, OUTPUT, UP, DOWN, PROJECTIONS };

struct LowRank {
  int64_t inner;         // 0: nothing is added here
  const bf16* a;         // [inner, inputs], filled up with zeros to whole blocks
  const bf16* b;         // [panels][pairs of inner values][32 outputs][2], the outputs in the order of the weight's panels
  const int64_t* spans;  // [panels][2]: a panel's outputs take the pairs from..to; the others meet zeros
};

class Adapters {
 public:
  // of_sequence: each one's layers, PROJECTIONS a layer, or none; none at all where no sequence has an adapter.
  Adapters(const LowRank* const* of_sequence, int64_t most_inner, int64_t rows)
      : of_sequence_(of_sequence),
        most_(rounded(most_inner, STEP)),
        lowered_(scratch<bf16>(of_sequence ? rows * most_ : 0)) {}

  bool any() const { return of_sequence_ != nullptr; }

  // A x of one row, rounded as all that meets a weight, and kept for `raise`; x: [inputs].
  void lower(int64_t layer, Projection projection, int64_t row, int64_t sequence, const bf16* x, int64_t inputs) {
    const LowRank* low = find(layer, projection, sequence);
    if (!low) return;
    bf16* out = lowered_.get() + row * most_;
    for (int64_t from = 0; from < low->inner; from += STEP) {
      __m512 sums[STEP];
      const bf16* a[STEP];
      // Past the last, the last once more.
#pragma GCC unroll 4
      for (int64_t i = 0; i < STEP; ++i)
        sums[i] = _mm512_setzero_ps(), a[i] = low->a + std::min(from + i, low->inner - 1) * inputs;
      for (int64_t at = 0; at < inputs; at += 32) {
        const __m512bh values = (__m512bh)_mm512_loadu_si512(x + at);
#pragma GCC unroll 4
        for (int64_t i = 0; i < STEP; ++i)
          sums[i] = _mm512_dpbf16_ps(sums[i], values, (__m512bh)_mm512_loadu_si512(a[i] + at));
      }
#pragma GCC unroll 4
      for (int64_t i = 0; i < STEP; ++i) out[from + i] = narrow(sum(sums[i]));
    }
  }

  // Adds B (A x) to the 32 outputs of a panel.
  void raise(int64_t layer, Projection projection, int64_t row, int64_t sequence, int64_t panel, vec& low_half,
             vec& high_half) const {
    const LowRank* low = find(layer, projection, sequence);
    if (!low) return;
    const bf16* inner = lowered_.get() + row * most_;
    const bf16* b = low->b + panel * ((low->inner + 1) / 2) * 2 * PANEL;
    __m512 added[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t pair = low->spans[2 * panel]; pair < low->spans[2 * panel + 1]; ++pair) {
      int32_t both;
      __builtin_memcpy(&both, inner + 2 * pair, sizeof both);
#pragma GCC unroll 2
      for (int64_t half = 0; half < 2; ++half) {
        const __m512i weights = _mm512_loadu_si512(b + pair * 2 * PANEL + half * 32);
        added[half] = _mm512_dpbf16_ps(added[half], (__m512bh)_mm512_set1_epi32(both), (__m512bh)weights);
      }
    }
    low_half = low_half + added[0], high_half = high_half + added[1];
  }

 private:
  static constexpr int64_t STEP = 4;
  const LowRank* const* of_sequence_;
  const int64_t most_;
  Scratch<bf16> lowered_;  // [rows, most_]

  const LowRank* find(int64_t layer, Projection projection, int64_t sequence) const {
    const LowRank* layers = of_sequence_[sequence];
    if (!layers) return nullptr;
    const LowRank* low = layers + layer * PROJECTIONS + projection;
    return low->inner ? low : nullptr;
  }
};
