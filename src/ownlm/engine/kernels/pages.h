// Attention over keys and values that lie in pages of 32 tokens.
//
// Of a layer and a key head a page holds keys [width / 2][32 tokens][2] and values [16 pairs of tokens][width][2], so that
// what a dot product of bfloat16 multiplies lies side by side.
//
// Pages are gone through from the first that a query sees to its last, with a running highest score (Milakov and
// Gimelshein 2018): what a query gets depends on its place alone, not on the queries worked on beside it.
#pragma once

#include "matrix.h"

constexpr int64_t PAGE = 32;

struct Pages {
  bf16* data;  // [pages][layers][kv_heads][2][32 * width]
  int64_t layers, kv_heads, width;

  bf16* keys(int64_t page, int64_t layer, int64_t head) const {
    return data + ((page * layers + layer) * kv_heads + head) * 2 * PAGE * width;
  }
  bf16* values(int64_t page, int64_t layer, int64_t head) const { return keys(page, layer, head) + PAGE * width; }

  // Takes a token's key and value in; `key`, `value`: [width]; last: no later token of its sequence comes in this pass.
  void write(int64_t page, int64_t layer, int64_t head, int64_t place, const bf16* key, const bf16* value,
             bool last) const {
    bf16 *k = keys(page, layer, head) + place * 2, *v = values(page, layer, head) + place / 2 * 2 * width;
    for (int64_t i = 0; i < width; i += 2) __builtin_memcpy(k + i * PAGE, key + i, 2 * sizeof(bf16));
    for (int64_t i = 0; i < width; ++i) v[2 * i + place % 2] = value[i];
    // The later token of the pair may never come: what is not there yet must be a number all the same.
    if (last && place % 2 == 0)
      for (int64_t i = 0; i < width; ++i) v[2 * i + 1] = 0;
  }
};

struct Scores {
  float scale, softcap;  // softcap 0 is none

  vec of(vec product) const {
    const vec score = product * all(scale);
    return softcap == 0 ? score : all(softcap) * tanh(score * all(1 / softcap));
  }
};

// One query: what it is, which keys it sees, and where its output goes.
struct Query {
  const bf16* q;
  int64_t from, to;
  bf16* out;
};

// ROWS queries of one key head. sums: room for ROWS x width.
template <int ROWS>
void attend(const Pages& pages, const int32_t* table, int64_t layer, int64_t head, const Scores& scores,
            const Query* queries, float* sums) {
  const int64_t width = pages.width;
  float highest[ROWS], total[ROWS];
  alignas(64) bf16 shares[ROWS][PAGE];
  int64_t from = queries[0].from, to = queries[0].to;
  for (int r = 0; r < ROWS; ++r) {
    highest[r] = -INFINITY, total[r] = 0;
    from = std::min(from, queries[r].from), to = std::max(to, queries[r].to);
  }
  std::fill_n(sums, ROWS * width, 0.0f);
  for (int64_t page = from / PAGE; page * PAGE < to; ++page) {
    const bf16* keys = pages.keys(table[page], layer, head);
    __m512 low[ROWS], high[ROWS];
    for (int r = 0; r < ROWS; ++r) low[r] = high[r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += 2, keys += 2 * PAGE) {
      const __m512bh first = (__m512bh)_mm512_loadu_si512(keys), second = (__m512bh)_mm512_loadu_si512(keys + 32);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) {
        int32_t both;
        __builtin_memcpy(&both, queries[r].q + i, sizeof both);
        const __m512bh spread = (__m512bh)_mm512_set1_epi32(both);
        low[r] = _mm512_dpbf16_ps(low[r], spread, first);
        high[r] = _mm512_dpbf16_ps(high[r], spread, second);
      }
    }
    for (int r = 0; r < ROWS; ++r) {
      const int64_t start = std::clamp<int64_t>(queries[r].from - page * PAGE, 0, PAGE);
      const int64_t end = std::clamp<int64_t>(queries[r].to - page * PAGE, 0, PAGE);
      const uint32_t seen = uint32_t((uint64_t(1) << end) - 1) & ~uint32_t((uint64_t(1) << start) - 1);
      if (!seen) {
        _mm512_store_si512(shares[r], _mm512_setzero_si512());
        continue;
      }
      const __mmask16 left = __mmask16(seen), right = __mmask16(seen >> 16);
      const vec a = _mm512_mask_mov_ps(all(-INFINITY), left, scores.of(low[r]));
      const vec b = _mm512_mask_mov_ps(all(-INFINITY), right, scores.of(high[r]));
      const float top = std::max(highest[r], _mm512_reduce_max_ps(_mm512_max_ps(a, b)));
      const vec p = _mm512_maskz_mov_ps(left, exponential(a - all(top)));
      const vec q = _mm512_maskz_mov_ps(right, exponential(b - all(top)));
      if (top != highest[r]) {
        const float less = highest[r] == -INFINITY ? 0.0f : std::exp(highest[r] - top);
        total[r] *= less, highest[r] = top;
        for (int64_t i = 0; i < width; i += 16)
          _mm512_storeu_ps(sums + r * width + i, _mm512_loadu_ps(sums + r * width + i) * all(less));
      }
      total[r] += _mm512_reduce_add_ps(p + q);
      _mm512_store_si512(shares[r], (__m512i)_mm512_cvtne2ps_pbh(q, p));
    }
    const int64_t pairs = (std::min(to - page * PAGE, PAGE) + 1) / 2;
    const bf16* values = pages.values(table[page], layer, head);
    for (int64_t column = 0; column < width; column += 16) {
      __m512 sum[ROWS];
      for (int r = 0; r < ROWS; ++r) sum[r] = _mm512_loadu_ps(sums + r * width + column);
      const bf16* at = values + column * 2;
      for (int64_t pair = 0; pair < pairs; ++pair, at += 2 * width) {
        const __m512bh both = (__m512bh)_mm512_loadu_si512(at);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          int32_t share;
          __builtin_memcpy(&share, &shares[r][2 * pair], sizeof share);
          sum[r] = _mm512_dpbf16_ps(sum[r], (__m512bh)_mm512_set1_epi32(share), both);
        }
      }
      for (int r = 0; r < ROWS; ++r) _mm512_storeu_ps(sums + r * width + column, sum[r]);
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int64_t i = 0; i < width; i += 16)
      store(queries[r].out + i, _mm512_loadu_ps(sums + r * width + i) * all(1 / total[r]));
}
