// The three products of a linear layer: its output, and the gradients of its input and its weight.
#include "tiles.h"

namespace {

// Tiles of depth summed over between two visits to the sums: a strip of A so deep stays in the first-level cache. In the
// second-level one stay a group of A's strips, and a block of so many strips of B, each so deep.
constexpr int64_t DEEP = 8, GROUP = 12, WIDTH = 12;

// An operand's strips packed, in blocks of depth: [blocks][strips][tiles of the block][2][TILE].
struct Packed {
  int64_t strips, depth, deep;
  Scratch<bf16> data;

  Packed(int64_t strips, int64_t depth)
      : strips(strips), depth(depth), deep(block_depth(depth)), data(scratch<bf16>(strips * depth * 2 * TILE)) {}

  // Blocks of about one size.
  static int64_t block_depth(int64_t depth) {
    const int64_t blocks = (depth + DEEP - 1) / DEEP;
    return (depth + blocks - 1) / blocks;
  }
  bf16* at(int64_t strip, int64_t k) const {
    const int64_t start = k / deep * deep, tiles = std::min(deep, depth - start);
    return data.get() + (start * strips + strip * tiles + k - start) * 2 * TILE;
  }
};

// Packed tiles that the next block of products will need, fetched a few lines at a time into the second-level cache while
// this one goes on. More at once would take the slots through which this block's own tiles come.
struct Ahead {
  const char *at = nullptr, *end = nullptr;
  int64_t lines = 0;  // a time

  Ahead() = default;
  Ahead(const bf16* from, int64_t values, int64_t times)
      : at(reinterpret_cast<const char*>(from)),
        end(reinterpret_cast<const char*>(from + values)),
        lines(values / 32 / times + 1) {}

  void some() {
    for (int64_t i = 0; i < lines && at < end; ++i, at += 64) _mm_prefetch(at, _MM_HINT_T1);
  }
};

// C = A B; epilogue.store(i, rows, j, columns, sums) takes finished blocks, sums: [columns / 32][32][32] float32, and
// epilogue.expect(i, j) is told of 32 rows and 32 columns some time before. Each sum is made in one order, whatever the
// number of threads.
template <typename A, typename B, typename Epilogue>
void multiply(const A& a, const B& b, int threads, const Epilogue& epilogue) {
  const int64_t depth = a.tiles(), columns = b.strips(), rows = a.strips();
  const int64_t deep = Packed::block_depth(depth);
  const int64_t blocks = (columns + WIDTH - 1) / WIDTH, width = (columns + blocks - 1) / blocks;
  // Groups of about one size too, and enough of them for every thread.
  const int64_t least = std::max((rows + GROUP - 1) / GROUP, std::min<int64_t>(2 * threads, rows));
  const int64_t height = (rows + least - 1) / least, block = STRIP * STRIP;
  Packed packed_b(columns, depth);
#pragma omp parallel num_threads(threads)
  {
    Unit unit;
    Packed packed_a(height, depth);
    auto sums = scratch<float>(height * width * block);
#pragma omp for schedule(static)
    for (int64_t piece = 0; piece < b.pieces(columns); ++piece) b.pack(piece, 0, columns, packed_b);
#pragma omp for schedule(dynamic)
    for (int64_t from = 0; from < rows; from += height) {
      const int64_t to = std::min(from + height, rows);
      for (int64_t piece = 0; piece < a.pieces(to - from); ++piece) a.pack(piece, from, to, packed_a);
      for (int64_t left = 0; left < columns; left += width) {
        const int64_t right = std::min(left + width, columns);
        for (int64_t start = 0; start < depth; start += deep) {
          const int64_t end = std::min(start + deep, depth);
          const int64_t next = end < depth ? left : right, next_start = end < depth ? end : 0;
          Ahead ahead;
          if (next < columns)
            ahead = Ahead(packed_b.at(next, next_start),
                          (std::min(next + width, columns) - next) * std::min(deep, depth - next_start) * 2 * TILE,
                          (to - from) * (right - left));
          for (int64_t i = 0; i < to - from; ++i) {
            for (int64_t j = left; j < right; ++j) {
              if (end == depth) epilogue.expect((from + i) * STRIP, j * STRIP);
              ahead.some();
              multiply_strips(packed_a.at(i, start), packed_b.at(j, start), end - start,
                              sums.get() + (i * width + j - left) * block, STRIP, start > 0);
            }
            if (end == depth)
              epilogue.store((from + i) * STRIP, std::min(STRIP, a.count - (from + i) * STRIP), left * STRIP,
                             std::min(right * STRIP, b.count) - left * STRIP, sums.get() + i * width * block);
          }
        }
      }
    }
  }
}

// Writes sums as bfloat16, with a bias if there is one.
struct Store {
  bf16* out;
  int64_t ld;
  const float* bias;
  int64_t rows, columns;

  // Fetches the lines for writing, while the products go on.
  void expect(int64_t i, int64_t j) const {
    for (int64_t row = i; row < std::min(rows, i + STRIP); ++row) __builtin_prefetch(out + row * ld + j, 1);
  }

  void store(int64_t i, int64_t rows, int64_t j, int64_t columns, const float* sums) const {
    for (int64_t row = 0; row < rows; ++row, sums += STRIP) {
      bf16* to = out + (i + row) * ld + j;
      for (int64_t a = 0; a < columns; a += STRIP) {
        const float* from = sums + a * STRIP;
        const __mmask16 low = first(columns - a), high = first(columns - a - 16);
        __m512 s0 = _mm512_load_ps(from), s1 = _mm512_load_ps(from + 16);
        if (bias) {
          s0 = _mm512_add_ps(s0, _mm512_maskz_loadu_ps(low, bias + j + a));
          s1 = _mm512_add_ps(s1, _mm512_maskz_loadu_ps(high, bias + j + a + 16));
        }
        _mm512_mask_storeu_epi16(to + a, low | uint32_t(high) << 16, (__m512i)_mm512_cvtne2ps_pbh(s1, s0));
      }
    }
  }
};

// Writes, or adds, sums as they are.
struct Accumulate {
  float* out;
  int64_t ld;
  bool add;
  int64_t rows, columns;

  void expect(int64_t i, int64_t j) const {
    for (int64_t row = i; row < std::min(rows, i + STRIP); ++row) {
      __builtin_prefetch(out + row * ld + j, 1);
      __builtin_prefetch(out + row * ld + j + 16, 1);
    }
  }

  void store(int64_t i, int64_t rows, int64_t j, int64_t columns, const float* sums) const {
    for (int64_t row = 0; row < rows; ++row, sums += STRIP) {
      float* to = out + (i + row) * ld + j;
      for (int64_t a = 0; a < columns; a += 16) {
        const __mmask16 mask = first(columns - a);
        __m512 s = _mm512_load_ps(sums + a / STRIP * STRIP * STRIP + a % STRIP);
        if (add) s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(mask, to + a));
        _mm512_mask_storeu_ps(to + a, mask, s);
      }
    }
  }
};

// Outputs, or tokens, at a time: what is packed of a vocabulary's weights, or summed over, stays in the last-level cache.
constexpr int64_t MOST_OUTPUTS = 4096, MOST_TOKENS = 2048;

template <typename W>
void forward(const bf16* x, int64_t ld_x, const W* weight, const float* bias, bf16* out, int64_t ld_out, int64_t tokens,
             int64_t inputs, int64_t outputs, int threads) {
  for (int64_t start = 0; start < outputs; start += MOST_OUTPUTS) {
    const int64_t count = std::min(MOST_OUTPUTS, outputs - start);
    multiply(Operand<Layout::rows, bf16>{x, ld_x, tokens, inputs},
             Operand<Layout::transposed_pairs, W>{weight + start * inputs, inputs, count, inputs}, threads,
             Store{out + start, ld_out, bias ? bias + start : nullptr, tokens, count});
  }
}

template <typename W>
void input_gradient(const bf16* grad, int64_t ld_grad, const W* weight, bf16* out, int64_t ld_out, int64_t tokens,
                    int64_t inputs, int64_t outputs, int threads) {
  if (outputs <= MOST_OUTPUTS) {
    multiply(Operand<Layout::rows, bf16>{grad, ld_grad, tokens, outputs},
             Operand<Layout::pairs, W>{weight, inputs, inputs, outputs}, threads,
             Store{out, ld_out, nullptr, tokens, inputs});
    return;
  }
  auto sums = scratch<float>(tokens * inputs);
  for (int64_t start = 0; start < outputs; start += MOST_OUTPUTS) {
    const int64_t count = std::min(MOST_OUTPUTS, outputs - start);
    multiply(Operand<Layout::rows, bf16>{grad + start, ld_grad, tokens, count},
             Operand<Layout::pairs, W>{weight + start * inputs, inputs, inputs, count}, threads,
             Accumulate{sums.get(), inputs, start > 0, tokens, inputs});
  }
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < tokens; ++row)
    for (int64_t i = 0; i < inputs; ++i) out[row * ld_out + i] = narrow(sums[row * inputs + i]);
}

}  // namespace

// out[tokens, outputs] = x[tokens, inputs] weight[outputs, inputs]^T + bias; weight is float32 if `wide`.
extern "C" void linear_forward(const bf16* x, int64_t ld_x, const void* weight, bool wide, const float* bias, bf16* out,
                               int64_t ld_out, int64_t tokens, int64_t inputs, int64_t outputs, int threads) {
  if (wide)
    forward(x, ld_x, static_cast<const float*>(weight), bias, out, ld_out, tokens, inputs, outputs, threads);
  else
    forward(x, ld_x, static_cast<const bf16*>(weight), bias, out, ld_out, tokens, inputs, outputs, threads);
}

// out[tokens, inputs] = grad[tokens, outputs] weight[outputs, inputs].
extern "C" void linear_input_gradient(const bf16* grad, int64_t ld_grad, const void* weight, bool wide, bf16* out,
                                      int64_t ld_out, int64_t tokens, int64_t inputs, int64_t outputs, int threads) {
  if (wide)
    input_gradient(grad, ld_grad, static_cast<const float*>(weight), out, ld_out, tokens, inputs, outputs, threads);
  else
    input_gradient(grad, ld_grad, static_cast<const bf16*>(weight), out, ld_out, tokens, inputs, outputs, threads);
}

// out[outputs, inputs] (+)= grad[tokens, outputs]^T x[tokens, inputs], in float32 throughout.
extern "C" void linear_weight_gradient(const bf16* grad, int64_t ld_grad, const bf16* x, int64_t ld_x, float* out,
                                       int64_t tokens, int64_t inputs, int64_t outputs, bool add, int threads) {
  for (int64_t start = 0; start < tokens; start += MOST_TOKENS) {
    const int64_t count = std::min(MOST_TOKENS, tokens - start);
    multiply(Operand<Layout::transposed, bf16>{grad + start * ld_grad, ld_grad, outputs, count},
             Operand<Layout::pairs, bf16>{x + start * ld_x, ld_x, inputs, count}, threads,
             Accumulate{out, inputs, add || start > 0, outputs, inputs});
  }
}

// out[columns] (+)= the column sums of x[rows, columns], in float32.
extern "C" void column_sums(const bf16* x, int64_t ld, float* out, int64_t rows, int64_t columns, bool add, int threads) {
  constexpr int64_t WIDTH = 256;  // columns whose sums stay in the cache
#pragma omp parallel for num_threads(threads)
  for (int64_t start = 0; start < columns; start += WIDTH) {
    const int64_t count = std::min(WIDTH, columns - start);
    float sums[WIDTH] = {};
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < count; ++i) sums[i] += widen(x[row * ld + start + i]);
    for (int64_t i = 0; i < count; ++i) out[start + i] = sums[i] + (add ? out[start + i] : 0.0f);
  }
}

// Whether this processor's unit may be used; to be asked for before anything else.
extern "C" bool prepare() { return unit_granted(); }
