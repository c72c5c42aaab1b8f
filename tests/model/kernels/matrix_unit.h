// AMX's tile instructions in plain C++, for machines that have none (Intel's Software Developer's Manual, volume 2, TDPBF16PS).
//
// Included before the kernels (-include), whose intrinsics it takes the place of. It is stricter than the unit in one thing:
// a tile that is used while none are configured ends the process, in any thread.
#pragma once

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

struct Tiles {
  bool configured = false;
  alignas(64) uint8_t bytes[8][16][64];

  uint8_t (*at(int tile))[64] {
    if (!configured) __builtin_trap();
    return bytes[tile];
  }
};

inline Tiles& tiles() {
  static thread_local Tiles held;
  return held;
}

inline void tile_load(int tile, const void* from, int64_t stride) {
  for (int row = 0; row < 16; ++row) memcpy(tiles().at(tile)[row], (const char*)from + row * stride, 64);
}

inline void tile_store(int tile, void* to, int64_t stride) {
  for (int row = 0; row < 16; ++row) memcpy((char*)to + row * stride, tiles().at(tile)[row], 64);
}

inline float widened(uint16_t value) {
  const uint32_t bits = uint32_t(value) << 16;
  float wide;
  memcpy(&wide, &bits, sizeof wide);
  return wide;
}

inline void tile_multiply(int to, int left, int right) {
  for (int m = 0; m < 16; ++m) {
    auto* sums = (float*)tiles().at(to)[m];
    const auto* a = (const uint16_t*)tiles().at(left)[m];
    for (int k = 0; k < 16; ++k) {
      const auto* b = (const uint16_t*)tiles().at(right)[k];
      for (int n = 0; n < 16; ++n) {
        sums[n] += widened(a[2 * k]) * widened(b[2 * n]);
        sums[n] += widened(a[2 * k + 1]) * widened(b[2 * n + 1]);
      }
    }
  }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(shape) ((void)(shape), tiles().configured = true)
#define _tile_release() (tiles().configured = false)
#define _tile_loadd(tile, from, stride) tile_load(tile, from, stride)
#define _tile_stored(tile, to, stride) tile_store(tile, to, stride)
#define _tile_zero(tile) memset(tiles().at(tile), 0, sizeof tiles().bytes[tile])
#define _tile_dpbf16ps(to, left, right) tile_multiply(to, left, right)
// The system grants what is not asked of it.
#define syscall(...) 0L
#define __AMX_BF16__ 1
