// What multiplies strips: AMX's tile unit where the compiler is told of one, else AVX-512's dot products of bfloat16.
//
// Both take the same operands, packed as whole tiles (tiles.h): A's tiles are 16 rows of 32 values, B's are 16 *pairs* of
// rows of 16 columns, so that two values that are multiplied with two others lie side by side.
#pragma once

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

using bf16 = uint16_t;

constexpr int64_t TILE = 16 * 32;  // values in a tile
constexpr int64_t STRIP = 32;      // rows of A, or columns of B, that are multiplied at once: two tiles

#ifdef __AMX_BF16__

// Asks the system for the matrix unit; false where it says no.
inline bool unit_granted() {
  constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM (Linux's documentation of x86's xstate)
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

// Gives this thread's matrix unit eight whole tiles while it lives.
struct Unit {
  Unit() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int i = 0; i < 8; ++i) shape.row_bytes[i] = 64, shape.rows[i] = 16;
    _tile_loadconfig(&shape);
  }
  ~Unit() { _tile_release(); }
};

// C (+)= A B of one strip each over `depth` tiles; c: [32, 32] float32, its rows ld apart.
//
// The unit multiplies two tiles in 16 cycles; what limits a product is how fast its tiles come.
inline void multiply_strips(const bf16* a, const bf16* b, int64_t depth, float* c, int64_t ld, bool add) {
  const int64_t stride = ld * sizeof(float);
  float *c1 = c + 16, *c2 = c + 16 * ld, *c3 = c2 + 16;
  // Compilers do not know that a tile's load reads memory: what was written before must be there.
  asm volatile("" ::: "memory");
  if (add) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c1, stride);
    _tile_loadd(2, c2, stride);
    _tile_loadd(3, c3, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < depth; ++k, a += 2 * TILE, b += 2 * TILE) {
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + TILE, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + TILE, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, stride);
  _tile_stored(1, c1, stride);
  _tile_stored(2, c2, stride);
  _tile_stored(3, c3, stride);
  asm volatile("" ::: "memory");
}

#else

inline bool unit_granted() { return true; }

struct Unit {
  Unit() {}
};

// C (+)= A B of one strip each over `depth` tiles; c: [32, 32] float32, its rows ld apart.
//
// Eight rows of A at a time: their 8 x 32 sums stay in half of the registers, and each pair of a row's values is spread
// over a register to meet 32 columns of B.
[[gnu::noinline]] inline void multiply_strips(const bf16* a, const bf16* b, int64_t depth, float* c, int64_t ld, bool add) {
  constexpr int ROWS = 8;
  for (int from = 0; from < STRIP; from += ROWS, c += ROWS * ld) {
    const bf16* left = a + from / 16 * TILE + from % 16 * 32;
    const bf16* right = b;
    __m512 low[ROWS], high[ROWS];
    for (int i = 0; i < ROWS; ++i) {
      low[i] = add ? _mm512_loadu_ps(c + i * ld) : _mm512_setzero_ps();
      high[i] = add ? _mm512_loadu_ps(c + i * ld + 16) : _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < depth; ++k, left += 2 * TILE, right += 2 * TILE) {
#pragma GCC unroll 16
      for (int pair = 0; pair < 16; ++pair) {
        const __m512bh first = (__m512bh)_mm512_load_si512(right + 32 * pair);
        const __m512bh second = (__m512bh)_mm512_load_si512(right + TILE + 32 * pair);
        for (int i = 0; i < ROWS; ++i) {
          int32_t both;
          __builtin_memcpy(&both, left + 32 * i + 2 * pair, sizeof both);
          const __m512bh spread = (__m512bh)_mm512_set1_epi32(both);
          low[i] = _mm512_dpbf16_ps(low[i], spread, first);
          high[i] = _mm512_dpbf16_ps(high[i], spread, second);
        }
      }
    }
    for (int i = 0; i < ROWS; ++i) {
      _mm512_storeu_ps(c + i * ld, low[i]);
      _mm512_storeu_ps(c + i * ld + 16, high[i]);
    }
  }
}

#endif
