// Sixteen float32 values at a time: exponentials and what is made of them, and bfloat16 to and from memory.
#pragma once

#include <cmath>

#include "tiles.h"

using vec = __m512;

inline vec all(float x) { return _mm512_set1_ps(x); }

// e^x within 4e-6 of itself, a thousandth of what bfloat16 keeps; no number stays none.
inline vec exponential(vec x) {
  // The second operand of max is what comes out where one is no number.
  x = _mm512_max_ps(all(-104.0f), x);
  const vec n = _mm512_roundscale_ps(x * all(1.44269504f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // x = n ln 2 + r, with ln 2 in two parts (Cody and Waite 1980); then a
  // polynomial that meets e^r for |r| < 0.35 (its Taylor series).
  const vec r = x - n * all(0.693359375f) + n * all(2.12194440e-4f);
  vec p = all(1.0f / 120);
  for (float factor : {1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + all(factor);
  return _mm512_scalef_ps(p, n);
}

// 1 / x to float32's precision: an estimate of 14 bits, and one step of Newton's.
inline vec inverse(vec x) {
  const vec guess = _mm512_rcp14_ps(x);
  return guess * (all(2) - x * guess);
}

// Far below 0, e^-x is beyond float32 and its inverse 0 times infinity: it stops at e^80.
inline vec sigmoid(vec x) { return inverse(all(1) + exponential(_mm512_min_ps(all(80), -x))); }
inline vec tanh(vec x) { return all(1) - all(2) * inverse(all(1) + exponential(_mm512_min_ps(all(80), x + x))); }

// The normal distribution's cumulative function, within 1e-7 (Abramowitz and Stegun 7.1.26), given e^(-x^2 / 2).
inline vec normal_cumulative(vec x, vec bell) {
  const vec size = _mm512_abs_ps(x) * all(0.70710678f);
  const vec t = inverse(all(1) + all(0.3275911f) * size);
  vec p = all(1.061405429f);
  for (float factor : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = p * t + all(factor);
  const vec tail = all(0.5f) * p * t * bell;
  return _mm512_mask_sub_ps(tail, _mm512_cmp_ps_mask(x, all(0), _CMP_GE_OQ), all(1), tail);
}

inline vec load(const bf16* p, int64_t count = 16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(count), p)), 16));
}
inline vec load(const float* p, int64_t count = 16) { return _mm512_maskz_loadu_ps(first(count), p); }
inline void store(bf16* p, vec x, int64_t count = 16) {
  _mm256_mask_storeu_epi16(p, first(count), (__m256i)_mm512_cvtneps_pbh(x));
}
inline void store(float* p, vec x, int64_t count = 16) { _mm512_mask_storeu_ps(p, first(count), x); }
inline vec rounded_to_bf16(vec x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)), 16));
}
inline float sum(vec x) { return _mm512_reduce_add_ps(x); }
