// Weights packed for products with the few rows that decode together, and with the many of a prompt.
//
// A weight [outputs, inputs] is cut into panels of 32 outputs, and a panel into blocks of 32 inputs. In bfloat16 a block lies
// as the processor's dot products take it, two inputs of an output side by side: [16 pairs][32 outputs][2]. What it is in
// fewer bits, codes.h says.
//
// What an output sums, and in what order, depends on nothing but its own row: inputs pair by pair, and of codes block by
// block. So an answer has the same bits alone, beside others, and read again as part of a prompt.
#pragma once

#include "codes.h"

enum Kind : int64_t { BF16, INT8, INT4 };

struct Matrix {
  int64_t kind, outputs, inputs;  // both counted with what fills them up to whole panels and blocks
  const uint8_t* data;
  const float* bias;  // [outputs], or none

  // How much too great the weights' codes are stored; 0 where there are no codes.
  int32_t above() const { return kind == INT8 ? Int8::above : kind == INT4 ? Int4::above : 0; }
};

// Rows [rows, inputs] of a matrix as bfloat16, and as codes where its weights are.
struct Input {
  const bf16* x;
  Codes codes;

  Input at(int64_t row, int64_t inputs) const { return {x + row * inputs, codes.at(row, inputs)}; }
};

// The most rows whose attention is worked on together.
constexpr int64_t MOST_ROWS = 8;

// How the panels of each kind are multiplied: by as many rows at a time as have room for their sums in registers.
struct Plain {
  static constexpr int64_t bytes = 2048, most_rows = 8;

  template <int ROWS>
  [[gnu::noinline]] static void multiply(const uint8_t* panel, int64_t groups, const Input& input, Ahead ahead, float* out) {
    const int64_t inputs = groups * GROUP;
    const bf16* x = input.x;
    __m512 total[ROWS][2];
    auto each = [&](const auto& what) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half)
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) what(r, half);
    };
    each([&](int r, int half) { total[r][half] = _mm512_setzero_ps(); });
    for (int64_t group = 0; group < groups; ++group, panel += bytes, x += GROUP) {
      ahead.fetch();
#pragma GCC unroll 16
      for (int pair = 0; pair < 16; ++pair) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m512i weights = _mm512_loadu_si512(panel + pair * 128 + half * 64);
#pragma GCC unroll 8
          for (int r = 0; r < ROWS; ++r) {
            int32_t both;
            __builtin_memcpy(&both, x + r * inputs + 2 * pair, sizeof both);
            total[r][half] = _mm512_dpbf16_ps(total[r][half], (__m512bh)_mm512_set1_epi32(both), (__m512bh)weights);
          }
        }
      }
    }
    each([&](int r, int half) { _mm512_store_ps(out + r * PANEL + half * 16, total[r][half]); });
  }
};

template <typename Format>
struct Coded {
  static constexpr int64_t bytes = Format::bytes, most_rows = 6;

  template <int ROWS>
  static void multiply(const uint8_t* panel, int64_t groups, const Input& input, Ahead ahead, float* out) {
    multiply_codes<Format, ROWS>(panel, groups, input.codes, ahead, out);
  }
};

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

// what(integral_constant<rows>) for 1 to MOST rows.
template <int MOST = MOST_ROWS, typename What>
inline void with_rows(int64_t rows, const What& what) {
  if constexpr (MOST > 1)
    if (rows < MOST) return with_rows<MOST - 1>(rows, what);
  what(std::integral_constant<int, MOST>{});
}

// The panels from..to for any number of rows.
template <typename Way>
void panels_of(const Matrix& matrix, int64_t from, int64_t to, const Input& input, int64_t rows, const Done& done) {
  const int64_t groups = matrix.inputs / GROUP, stride = groups * Way::bytes;
  // Rows are worked on in parts of about one size. A panel stays in the cache for all of them, and each part fetches its
  // share of the next panel; with a single part the processor does so by itself.
  const int64_t parts = (rows + Way::most_rows - 1) / Way::most_rows, lines = (Way::bytes / 64 + parts - 1) / parts;
  alignas(64) float out[Way::most_rows * PANEL];
  for (int64_t panel = from; panel < to; ++panel) {
    const uint8_t* data = matrix.data + panel * stride;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = rows * part / parts, end = rows * (part + 1) / parts, share = part * lines * 64 * groups;
      const Ahead ahead{data + stride + share, parts > 1 && panel + 1 < to && share < stride ? lines : 0};
      with_rows<Way::most_rows>(end - first, [&](auto count) {
        Way::template multiply<decltype(count)::value>(data, groups, input.at(first, matrix.inputs), ahead, out);
      });
      for (int64_t row = first; row < end; ++row) done(panel, row, out + (row - first) * PANEL);
    }
  }
}

inline void panels_of(const Matrix& matrix, int64_t from, int64_t to, const Input& input, int64_t rows, const Done& done) {
  switch (matrix.kind) {
    case INT8: return panels_of<Coded<Int8>>(matrix, from, to, input, rows, done);
    case INT4: return panels_of<Coded<Int4>>(matrix, from, to, input, rows, done);
    default: return panels_of<Plain>(matrix, from, to, input, rows, done);
  }
}
