// Operands of products of bfloat16, copied ("packed") into whole tiles one after another.
//
// An operand lies in memory in one of four ways:
//
//   rows              A as it is: A[m][k]          transposed        A stored as [k][m]
//   pairs             B as it is: B[k][n]          transposed pairs  B stored as [n][k], as weights are
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "unit.h"

inline int64_t rounded(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

inline float widen(bf16 x) { return std::bit_cast<float>(uint32_t(x) << 16); }

// Rounds to the nearest, ties to even.
inline bf16 narrow(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return bf16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Blocks that this thread used before, to be used again: the system's allocator seldom finds the hole that an aligned block
// left when the next one of that size is asked for, and its heap grows for hours.
struct Pool {
  struct Block {
    void* memory;
    int64_t bytes;
  };
  std::vector<Block> blocks;

  ~Pool() {
    for (const Block& block : blocks) std::free(block.memory);
  }

  // The smallest block that is large enough; where none is, the largest makes room for a new one.
  Block take(int64_t bytes) {
    auto best = blocks.end(), largest = blocks.end();
    for (auto block = blocks.begin(); block != blocks.end(); ++block) {
      if (block->bytes >= bytes && (best == blocks.end() || block->bytes < best->bytes)) best = block;
      if (largest == blocks.end() || block->bytes > largest->bytes) largest = block;
    }
    if (best != blocks.end()) {
      const Block found = *best;
      blocks.erase(best);
      return found;
    }
    if (largest != blocks.end()) {
      std::free(largest->memory);
      blocks.erase(largest);
    }
    void* memory = std::aligned_alloc(64, bytes);
    if (!memory) throw std::bad_alloc();
    return {memory, bytes};
  }

  static Pool& own() {
    static thread_local Pool pool;
    return pool;
  }
};

struct GiveBack {
  int64_t bytes = 0;
  void operator()(void* memory) const { Pool::own().blocks.push_back({memory, bytes}); }
};
template <typename T>
using Scratch = std::unique_ptr<T[], GiveBack>;

// Memory that begins a cache line and is not filled with zeros; given back by the thread that asked for it.
template <typename T>
Scratch<T> scratch(int64_t count) {
  const auto block = Pool::own().take(rounded(std::max<int64_t>(count, 1) * sizeof(T), 64));
  return Scratch<T>(static_cast<T*>(block.memory), GiveBack{block.bytes});
}

// The first `count` of 32 values as bfloat16, zeros after them.
inline __m512i load32(const bf16* p, int64_t count) {
  return _mm512_maskz_loadu_epi16(count >= 32 ? ~0u : (1u << std::max<int64_t>(count, 0)) - 1, p);
}
inline __mmask16 first(int64_t count) {
  return count >= 16 ? 0xffff : __mmask16((1u << std::max<int64_t>(count, 0)) - 1);
}
inline __m512i load32(const float* p, int64_t count) {
  const __m512 low = _mm512_maskz_loadu_ps(first(count), p), high = _mm512_maskz_loadu_ps(first(count - 16), p + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// Transposes 16 x 16 values of 32 bits.
inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// One tile from memory; TURNED: transposed, as 32-bit values.
template <bool TURNED, typename T>
inline void tile_of_rows(const T* in, int64_t ld, int64_t rows, int64_t columns, bf16* out) {
  __m512i r[16];
  for (int i = 0; i < 16; ++i) r[i] = i < rows ? load32(in + i * ld, columns) : _mm512_setzero_si512();
  if constexpr (TURNED) transpose(r);
  for (int i = 0; i < 16; ++i) _mm512_store_si512(out + i * 32, r[i]);
}

// Two tiles, of 32 columns: rows in pairs, or TURNED.
template <bool TURNED, typename T>
inline void tiles_of_pairs(const T* in, int64_t ld, int64_t rows, int64_t columns, bf16* out) {
  // Pairs of columns 0 to 3 of each eight, and of columns 4 to 7.
  __m512i low[16], high[16];
  for (int i = 0; i < 16; ++i) {
    const T* pair = in + 2 * i * ld;
    const __m512i even = 2 * i < rows ? load32(pair, columns) : _mm512_setzero_si512();
    const __m512i odd = 2 * i + 1 < rows ? load32(pair + ld, columns) : _mm512_setzero_si512();
    low[i] = _mm512_unpacklo_epi16(even, odd);
    high[i] = _mm512_unpackhi_epi16(even, odd);
  }
  if constexpr (TURNED) {
    transpose(low);
    transpose(high);
    for (int i = 0; i < 16; ++i) {
      const int64_t column = i / 4 * 8 + i % 4;
      _mm512_store_si512(out + column * 32, low[i]);
      _mm512_store_si512(out + (column + 4) * 32, high[i]);
    }
  } else {
    const __m512i first_half = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second_half = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    for (int i = 0; i < 16; ++i) {
      _mm512_store_si512(out + i * 32, _mm512_permutex2var_epi64(low[i], first_half, high[i]));
      _mm512_store_si512(out + TILE + i * 32, _mm512_permutex2var_epi64(low[i], second_half, high[i]));
    }
  }
}

enum class Layout { rows, transposed, pairs, transposed_pairs };

// Strips packed one after another.
struct Strips {
  bf16* data;
  int64_t tiles;  // of depth

  bf16* at(int64_t strip, int64_t k) const { return data + (strip * tiles + k) * 2 * TILE; }
};

// An operand where it lies: `count` rows of A (columns of B) by `depth` values that are summed over. Packed, it is strips
// of 32, each of so many tiles of depth, and of those two side by side.
template <Layout LAYOUT, typename T>
struct Operand {
  const T* data;
  int64_t ld, count, depth;

  static constexpr bool along = LAYOUT == Layout::rows || LAYOUT == Layout::transposed_pairs;
  static constexpr bool turned = LAYOUT == Layout::transposed || LAYOUT == Layout::transposed_pairs;

  int64_t strips() const { return (count + STRIP - 1) / STRIP; }
  int64_t tiles() const { return (depth + 31) / 32; }

  // Packing goes along the rows in memory: piece by piece, a strip each or a tile of the depth each.
  int64_t pieces(int64_t strips) const { return along ? strips : tiles(); }

  // One piece of the strips from `from` to `to`, to wherever packed.at(strip - from, tile of the depth) is.
  template <typename To>
  void pack(int64_t piece, int64_t from, int64_t to, const To& packed) const {
    if constexpr (along) {
      for (int64_t k = 0; k < tiles(); ++k) tile(from + piece, k, packed.at(piece, k));
    } else {
      for (int64_t strip = from; strip < to; ++strip) tile(strip, piece, packed.at(strip - from, piece));
    }
  }

 private:
  void tile(int64_t strip, int64_t k, bf16* out) const {
    const int64_t deep = depth - 32 * k, left = count - strip * STRIP;
    if constexpr (along) {
      const T* from = data + strip * STRIP * ld + 32 * k;
      tile_of_rows<turned>(from, ld, left, deep, out);
      tile_of_rows<turned>(from + 16 * ld, ld, left - 16, deep, out + TILE);
    } else {
      tiles_of_pairs<turned>(data + 32 * k * ld + strip * STRIP, ld, deep, left, out);
    }
  }
};
