// Products in whole numbers: weights of 8 or 4 bits meet rows that were brought to 8 bits as well.
//
// In a block of 32 inputs a value is its code times the block's scale, of a weight and of a row alike. The processor adds
// up four products of bytes at a time, exactly, twice as many as of bfloat16; what scales make of a block's sum is float32.
// A block of a panel lies as the processor takes it, four inputs of an output side by side:
//
//   int8   [8 fours][32 outputs][4] codes + 128, then [32] float16 scales
//   int4   [4 fours of an even number and the next one][32 outputs][4] bytes, the earlier in the lower four bits, then [32]
//          float16 scales and [32] float16 offsets: value = scale * (code - 8) + offset
//
// The processor wants one side without a sign: a weight's code is stored that much too great, and the sum starts that
// many times the row's codes below zero.
#pragma once

#include "vectors.h"

constexpr int64_t PANEL = 32, GROUP = 32;

// A row's codes, and of each block the scale, where the sum starts, and scale times the sum of its codes, which meets an
// offset of the weights. The next row's lie `inputs` codes or `inputs` / 32 blocks on.
struct Codes {
  int8_t* codes;
  float *scales, *shares;
  int32_t* starts;

  Codes at(int64_t row, int64_t inputs) const {
    const int64_t block = row * (inputs / GROUP);
    return {codes + row * inputs, scales + block, shares + block, starts + block};
  }
};

struct Int8 {
  static constexpr int32_t above = 128;
  static constexpr bool shifted = false;
  static constexpr int64_t values = 1024, bytes = values + 64;
  static __m512i weights(const uint8_t* block, int four, int half) {
    return _mm512_loadu_si512(block + four * 128 + half * 64);
  }
};

struct Int4 {
  static constexpr int32_t above = 8;
  static constexpr bool shifted = true;
  static constexpr int64_t values = 512, bytes = values + 128;
  static __m512i weights(const uint8_t* block, int four, int half) {
    const __m512i both = _mm512_loadu_si512(block + four / 2 * 128 + half * 64);
    return _mm512_and_si512(four % 2 ? _mm512_srli_epi16(both, 4) : both, _mm512_set1_epi8(15));
  }
};

inline __m512 halves(const uint8_t* at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)at)); }

// Brings a row [inputs] to codes, for weights stored `above` too great. A block with a value that is no number, or beyond
// all numbers, gets such a scale, and so do the products.
inline void code_row(const bf16* x, int64_t inputs, int32_t above, const Codes& out) {
  const __m512i unsigned_bits = _mm512_set1_epi32(0x7fffffff);
  for (int64_t block = 0; block < inputs / GROUP; ++block, x += GROUP) {
    const vec low = load(x), high = load(x + 16);
    // As whole numbers the bits of floats without a sign are in the floats' order, and no number is above infinity.
    const uint32_t most = _mm512_reduce_max_epu32(_mm512_max_epu32(
        _mm512_and_si512(_mm512_castps_si512(low), unsigned_bits), _mm512_and_si512(_mm512_castps_si512(high), unsigned_bits)));
    float largest;
    __builtin_memcpy(&largest, &most, sizeof largest);
    const vec steps = all(largest > 0 ? 127 / largest : 0);
    const __m128i lower = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(low * steps));
    const __m128i upper = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(high * steps));
    const __m256i codes = _mm256_set_m128i(upper, lower);
    _mm256_storeu_si256((__m256i*)(out.codes + block * GROUP), codes);
    const __m256i fours = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), codes);
    const int32_t sum = _mm512_reduce_add_epi32(_mm512_zextsi256_si512(fours));
    out.scales[block] = largest / 127;
    out.shares[block] = out.scales[block] * float(sum);
    out.starts[block] = -above * sum;
  }
}

// What is asked of memory beside a product, some lines for each block: the panel that comes next, while this one's sums
// take longer than its reading.
struct Ahead {
  const uint8_t* at;
  int64_t lines;

  void fetch() {
    for (int64_t line = 0; line < lines; ++line, at += 64) _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
  }
};

// out[ROWS][32] = rows of codes times a transposed panel.
template <typename Format, int ROWS>
[[gnu::noinline]] void multiply_codes(const uint8_t* panel, int64_t groups, const Codes& x, Ahead ahead, float* out) {
  const int64_t inputs = groups * GROUP;
  const int8_t* codes = x.codes;
  __m512i part[ROWS][2];
  __m512 total[ROWS][2];
  auto each = [&](const auto& what) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) what(r, half);
  };
  each([&](int r, int half) { total[r][half] = _mm512_setzero_ps(); });
  for (int64_t group = 0; group < groups; ++group, panel += Format::bytes, codes += GROUP) {
    ahead.fetch();
    each([&](int r, int half) { part[r][half] = _mm512_set1_epi32(x.starts[r * groups + group]); });
#pragma GCC unroll 8
    for (int four = 0; four < 8; ++four) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m512i weights = Format::weights(panel, four, half);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          int32_t bytes;
          __builtin_memcpy(&bytes, codes + r * inputs + 4 * four, sizeof bytes);
          part[r][half] = _mm512_dpbusd_epi32(part[r][half], weights, _mm512_set1_epi32(bytes));
        }
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const uint8_t* scales = panel + Format::values + half * 32;
      const __m512 scale = halves(scales);
      __m512 offset;
      if constexpr (Format::shifted) offset = halves(scales + 64);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) {
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[r * groups + group]));
        total[r][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[r][half]), both, total[r][half]);
        if constexpr (Format::shifted)
          total[r][half] = _mm512_fmadd_ps(offset, _mm512_set1_ps(x.shares[r * groups + group]), total[r][half]);
      }
    }
  }
  each([&](int r, int half) { _mm512_store_ps(out + r * PANEL + half * 16, total[r][half]); });
}
