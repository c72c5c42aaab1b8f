// Weights packed for products with the few rows that decode together, and with the many of a prompt.
//
// A weight [outputs, inputs] is cut into panels of 32 outputs, and a panel into blocks of 32 inputs. A block's values lie
// as the processor's dot products take them, two inputs of an output side by side, and its scales follow:
//
//   bf16   [16 pairs][32 outputs][2] bfloat16
//   int8   [16 pairs][32 outputs][2] int8, then [32] float16 scales: value = scale * code
//   int4   [8 pairs of pairs][32 outputs][2] bytes, the earlier pair in the lower four bits, then [32] float16 scales and
//          [32] float16 offsets: value = scale * (code - 8) + offset
//
// What an output sums, and in what order, depends on nothing but its own row: inputs pair by pair within a block, and
// then block by block. So an answer has the same bits alone, beside others, and read again as part of a prompt.
#pragma once

#include "vectors.h"

constexpr int64_t PANEL = 32, GROUP = 32;

enum Kind : int64_t { BF16, INT8, INT4 };

struct Matrix {
  int64_t kind, outputs, inputs;  // both counted with what fills them up to whole panels and blocks
  const uint8_t* data;
  const float* bias;  // [outputs], or none
};

// How a block is read: `weights` gives 16 outputs x 2 inputs as bfloat16.
struct Plain {
  static constexpr bool scaled = false, shifted = false;
  static constexpr int64_t values = 2048, bytes = values;
  static __m512i weights(const uint8_t* block, int pair, int half) {
    return _mm512_loadu_si512(block + pair * 128 + half * 64);
  }
};

struct Int8 {
  static constexpr bool scaled = true, shifted = false;
  static constexpr int64_t values = 1024, bytes = values + 64;
  static __m512i weights(const uint8_t* block, int pair, int half) {
    const __m128i* at = reinterpret_cast<const __m128i*>(block + pair * 64 + half * 32);
    const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at)));
    const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at + 1)));
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
  }
};

struct Int4 {
  static constexpr bool scaled = true, shifted = true;
  static constexpr int64_t values = 512, bytes = values + 128;
  static __m512i weights(const uint8_t* block, int pair, int half) {
    // -8 to 7 as bfloat16, twice: a lookup goes by five bits, of which the fifth belongs to the other code.
    const __m512i table = _mm512_setr_epi32(0xc0e0c100, 0xc0a0c0c0, 0xc040c080, 0xbf80c000, 0x3f800000, 0x40404000,
                                            0x40a04080, 0x40e040c0, 0xc0e0c100, 0xc0a0c0c0, 0xc040c080, 0xbf80c000,
                                            0x3f800000, 0x40404000, 0x40a04080, 0x40e040c0);
    const __m256i* at = reinterpret_cast<const __m256i*>(block + pair / 2 * 64 + half * 32);
    const __m512i words = _mm512_cvtepu8_epi16(_mm256_loadu_si256(at));
    return _mm512_permutexvar_epi16(pair % 2 ? _mm512_srli_epi16(words, 4) : words, table);
  }
};

// A block of Coded whose codes were widened to bfloat16 before: for many rows.
template <typename Coded>
struct Widened {
  static constexpr bool scaled = Coded::scaled, shifted = Coded::shifted;
  static constexpr int64_t values = Plain::values, bytes = values + Coded::bytes - Coded::values;
  static __m512i weights(const uint8_t* block, int pair, int half) { return Plain::weights(block, pair, half); }
};

template <typename Coded>
void widen_panel(const uint8_t* panel, int64_t groups, uint8_t* out) {
  using Wide = Widened<Coded>;
  for (int64_t group = 0; group < groups; ++group, panel += Coded::bytes, out += Wide::bytes) {
#pragma GCC unroll 16
    for (int pair = 0; pair < 16; ++pair)
      for (int half = 0; half < 2; ++half)
        _mm512_storeu_si512(out + pair * 128 + half * 64, Coded::weights(panel, pair, half));
    __builtin_memcpy(out + Wide::values, panel + Coded::values, Coded::bytes - Coded::values);
  }
}

inline __m512 halves(const uint8_t* at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)at)); }

// out[ROWS][PANELS * 32] = x[ROWS] times the transposed panels, which lie `stride` bytes apart; or `further`: what is there
// grows by blocks that follow on.
//
// x: bfloat16 rows ld apart; sums: [ROWS] rows of each block's sum of x, ld_sums apart.
template <typename Format, int ROWS, int PANELS>
[[gnu::noinline]] void multiply_panels(const uint8_t* panels, int64_t stride, int64_t groups, const bf16* x, int64_t ld,
                            const float* sums, int64_t ld_sums, float* out, bool further = false) {
  constexpr int BLOCKS = 2 * PANELS;
  // Few sums stay in registers throughout, and more are fetched for each block.
  constexpr bool held = ROWS * BLOCKS <= 12;
  __m512 part[ROWS][BLOCKS], total[ROWS][BLOCKS];
  auto each = [&](const auto& what) {
#pragma GCC unroll 8
    for (int b = 0; b < BLOCKS; ++b)
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) what(r, b, out + (r * BLOCKS + b) * 16);
  };
  each([&](int r, int b, float* at) {
    part[r][b] = _mm512_setzero_ps();
    if constexpr (!Format::scaled) return;
    total[r][b] = further ? _mm512_load_ps(at) : _mm512_setzero_ps();
    if constexpr (!held) _mm512_store_ps(at, total[r][b]);
  });
  for (int64_t group = 0; group < groups; ++group, panels += Format::bytes, x += GROUP) {
#pragma GCC unroll 16
    for (int pair = 0; pair < 16; ++pair) {
#pragma GCC unroll 8
      for (int b = 0; b < BLOCKS; ++b) {
        const __m512bh weights = (__m512bh)Format::weights(panels + b / 2 * stride, pair, b % 2);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          int32_t both;
          __builtin_memcpy(&both, x + r * ld + 2 * pair, sizeof both);
          part[r][b] = _mm512_dpbf16_ps(part[r][b], (__m512bh)_mm512_set1_epi32(both), weights);
        }
      }
    }
    if constexpr (Format::scaled) {
#pragma GCC unroll 8
      for (int b = 0; b < BLOCKS; ++b) {
        const uint8_t* scales = panels + b / 2 * stride + Format::values + b % 2 * 32;
        const __m512 scale = halves(scales);
        __m512 offset;
        if constexpr (Format::shifted) offset = halves(scales + 64);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          float* at = out + (r * BLOCKS + b) * 16;
          __m512 sum = held ? total[r][b] : _mm512_load_ps(at);
          sum = _mm512_fmadd_ps(scale, part[r][b], sum);
          if constexpr (Format::shifted) sum = _mm512_fmadd_ps(offset, _mm512_set1_ps(sums[r * ld_sums + group]), sum);
          if constexpr (held)
            total[r][b] = sum;
          else
            _mm512_store_ps(at, sum);
          part[r][b] = _mm512_setzero_ps();
        }
      }
    }
  }
  if constexpr (held || !Format::scaled)
    each([&](int r, int b, float* at) { _mm512_store_ps(at, Format::scaled ? total[r][b] : part[r][b]); });
}

// The most rows, and the most panels with so many rows, whose sums stay in registers.
constexpr int64_t MOST_ROWS = 8, HELD_ROWS = 6;
constexpr int panels_beside(int rows) { return rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }

// What becomes of a product: done(panel, row, sums of the row's 32 outputs). Not a template, since the products are many
// and would all be compiled again for each use.
class Done {
 public:
  template <typename What>
  Done(const What& what)
      : what_(&what), call_([](const void* of, int64_t panel, int64_t row, const float* sums) {
          (*static_cast<const What*>(of))(panel, row, sums);
        }) {}

  void operator()(int64_t panel, int64_t row, const float* sums) const { call_(what_, panel, row, sums); }

 private:
  const void* what_;
  void (*call_)(const void*, int64_t, int64_t, const float*);
};

// ROWS rows, the first of them numbered `first`, by the panels from..to.
template <typename Format, int ROWS>
void rows_by_panels(const uint8_t* data, int64_t from, int64_t to, int64_t groups, const bf16* x, int64_t ld,
                    const float* sums, int64_t ld_sums, int64_t first, const Done& done) {
  constexpr int MOST = panels_beside(ROWS);
  const int64_t stride = groups * Format::bytes;
  alignas(64) float out[ROWS * MOST * PANEL];
  auto some = [&](auto count, int64_t panel) {
    constexpr int PANELS = decltype(count)::value;
    multiply_panels<Format, ROWS, PANELS>(data + panel * stride, stride, groups, x, ld, sums, ld_sums, out);
    for (int r = 0; r < ROWS; ++r)
      for (int p = 0; p < PANELS; ++p) done(panel + p, first + r, out + (r * PANELS + p) * PANEL);
  };
  int64_t panel = from;
  for (; panel + MOST <= to; panel += MOST) some(std::integral_constant<int, MOST>{}, panel);
  if constexpr (MOST > 2) {
    if (to - panel == 3) some(std::integral_constant<int, 3>{}, panel), panel += 3;
    if (to - panel == 2) some(std::integral_constant<int, 2>{}, panel), panel += 2;
  }
  if constexpr (MOST > 1)
    if (to - panel == 1) some(std::integral_constant<int, 1>{}, panel);
}

// what(integral_constant<rows>) for 1 to 8 rows.
template <typename What>
inline void with_rows(int64_t rows, const What& what) {
  switch (rows) {
    case 1: return what(std::integral_constant<int, 1>{});
    case 2: return what(std::integral_constant<int, 2>{});
    case 3: return what(std::integral_constant<int, 3>{});
    case 4: return what(std::integral_constant<int, 4>{});
    case 5: return what(std::integral_constant<int, 5>{});
    case 6: return what(std::integral_constant<int, 6>{});
    case 7: return what(std::integral_constant<int, 7>{});
    default: return what(std::integral_constant<int, 8>{});
  }
}

// Blocks of a panel that are widened at a time, to stay in the first-level cache while all rows meet them.
constexpr int64_t CHUNK = 4;

// What a thread needs beside: a widened part of a panel, and the sums of all rows.
struct Room {
  Scratch<uint8_t> wide;
  Scratch<float> sums;

  explicit Room(int64_t rows)
      : wide(scratch<uint8_t>(CHUNK * Widened<Int4>::bytes)), sums(scratch<float>(rounded(rows, MOST_ROWS) * PANEL)) {}
};

// The panels from..to for any number of rows.
template <typename Format>
void panels_of(const Matrix& matrix, int64_t from, int64_t to, const bf16* x, int64_t ld, int64_t rows,
               const float* sums, int64_t ld_sums, const Room& room, const Done& done) {
  const int64_t groups = matrix.inputs / GROUP;
  auto by_rows = [&](int64_t step, const auto& what) {
    for (int64_t row = 0; row < rows; row += step)
      with_rows(std::min(rows - row, step), [&](auto count) { what(row, count); });
  };
  if (rows <= MOST_ROWS || !Format::scaled) {
    const int64_t step = rows <= MOST_ROWS ? to - from : 1;
    for (int64_t panel = from; panel < to; panel += step)
      by_rows(MOST_ROWS, [&](int64_t row, auto count) {
        rows_by_panels<Format, decltype(count)::value>(
            matrix.data, panel, panel + step, groups, x + row * ld, ld, sums + row * ld_sums, ld_sums, row, done);
      });
    return;
  }
  for (int64_t panel = from; panel < to; ++panel) {
    const uint8_t* data = matrix.data + panel * groups * Format::bytes;
    for (int64_t group = 0; group < groups; group += CHUNK) {
      const int64_t count = std::min(CHUNK, groups - group);
      widen_panel<Format>(data + group * Format::bytes, count, room.wide.get());
      by_rows(HELD_ROWS, [&](int64_t row, auto size) {
        multiply_panels<Widened<Format>, decltype(size)::value, 1>(
            room.wide.get(), 0, count, x + row * ld + group * GROUP, ld, sums + row * ld_sums + group, ld_sums,
            room.sums.get() + row * PANEL, group > 0);
      });
    }
    for (int64_t row = 0; row < rows; ++row) done(panel, row, room.sums.get() + row * PANEL);
  }
}

inline void panels_of(const Matrix& matrix, int64_t from, int64_t to, const bf16* x, int64_t ld, int64_t rows,
               const float* sums, int64_t ld_sums, const Room& room, const Done& done) {
  switch (matrix.kind) {
    case INT8: return panels_of<Int8>(matrix, from, to, x, ld, rows, sums, ld_sums, room, done);
    case INT4: return panels_of<Int4>(matrix, from, to, x, ld, rows, sums, ld_sums, room, done);
    default: return panels_of<Plain>(matrix, from, to, x, ld, rows, sums, ld_sums, room, done);
  }
}
