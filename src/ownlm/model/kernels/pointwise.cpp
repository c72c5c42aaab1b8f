// Activations, norms and the vocabulary's softmax: bfloat16 in memory, float32 in between.
#include <vector>

#include "vectors.h"

namespace {

// An activation's value and slope at x.
struct Point {
  vec value, slope;
};

struct GeluTanh {
  static Point at(vec x) {
    // 0.5 (1 + tanh u) is the sigmoid of 2 u.
    const vec square = x * x, twice = all(1.59576912f) * x * (all(1) + all(0.044715f) * square);
    const vec s = sigmoid(twice), inner = all(1.59576912f) * (all(1) + all(0.134145f) * square);
    return {x * s, s + x * s * (all(1) - s) * inner};
  }
};
struct Gelu {
  static Point at(vec x) {
    const vec bell = exponential(all(-0.5f) * x * x), s = normal_cumulative(x, bell);
    return {x * s, s + x * bell * all(0.39894228f)};
  }
};
struct Silu {
  static Point at(vec x) {
    const vec s = sigmoid(x);
    return {x * s, s + x * s * (all(1) - s)};
  }
};
struct Relu {
  static Point at(vec x) {
    const __mmask16 above = _mm512_cmp_ps_mask(x, all(0), _CMP_GT_OQ);
    // The second operand of max is what comes out where one is no number.
    return {_mm512_max_ps(all(0), x), _mm512_maskz_mov_ps(above, all(1))};
  }
};

// Runs what(Activation{}) for the one that `kind` numbers.
template <typename What>
void with_activation(int kind, What what) {
  switch (kind) {
    case 0: return what(GeluTanh{});
    case 1: return what(Gelu{});
    case 2: return what(Silu{});
    default: return what(Relu{});
  }
}

// what(i, 16) for every whole vector of `count` values, what(i, rest) for what is left.
template <typename What>
inline void in_vectors(int64_t count, What what) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) what(i, std::integral_constant<int64_t, 16>{});
  if (i < count) what(i, count - i);
}

// Rows in one partial sum of a norm's gradients: few enough to share out, and the same whatever the number of threads.
constexpr int64_t CHUNK = 64;

}  // namespace

// out[rows, width] = activation(inner), or activation(gate) * value where inner is [rows, gate and value].
extern "C" void activation_forward(int kind, bool gated, const bf16* inner, bf16* out, int64_t rows, int64_t width,
                                   int threads) {
  const int64_t ld = gated ? 2 * width : width;
  with_activation(kind, [&](auto activation) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; ++row) {
      const bf16* from = inner + row * ld;
      in_vectors(width, [&](int64_t i, auto count) {
        vec value = activation.at(load(from + i, count)).value;
        // Rounded before it meets the other half, as two operations would.
        if (gated) value = rounded_to_bf16(value) * load(from + width + i, count);
        store(out + row * width + i, value, count);
      });
    }
  });
}

// grad_inner from grad, the gradient of what activation_forward gives; and what it gives once more, unless null.
extern "C" void activation_backward(int kind, bool gated, const bf16* inner, const bf16* grad, bf16* grad_inner,
                                    bf16* out, int64_t rows, int64_t width, int threads) {
  const int64_t ld = gated ? 2 * width : width;
  with_activation(kind, [&](auto activation) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; ++row) {
      const bf16* from = inner + row * ld;
      bf16* to = grad_inner + row * ld;
      in_vectors(width, [&](int64_t i, auto count) {
        const Point point = activation.at(load(from + i, count));
        const vec above = load(grad + row * width + i, count);
        if (!gated) {
          store(to + i, above * point.slope, count);
          if (out) store(out + row * width + i, point.value, count);
          return;
        }
        const vec value = load(from + width + i, count), rounded = rounded_to_bf16(point.value);
        store(to + i, above * value * point.slope, count);
        store(to + width + i, above * rounded, count);
        if (out) store(out + row * width + i, rounded * value, count);
      });
    }
  });
}

// out = (x - mean) / deviation * weight + bias; without `centred` mean is 0 and bias null. `double_rounding`: the normed
// value and the weight are bfloat16 before they meet, as the references' RMS norm has it. statistics: [rows, 2], mean and
// 1 / deviation.
extern "C" void norm_forward(bool centred, bool double_rounding, const bf16* x, const float* weight, const float* bias,
                             bf16* out, float* statistics, int64_t rows, int64_t width, float eps, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    const bf16* from = x + row * width;
    vec total = all(0), squares = all(0);
    if (centred) in_vectors(width, [&](int64_t i, auto count) { total = total + load(from + i, count); });
    const float mean = sum(total) / float(width);
    in_vectors(width, [&](int64_t i, auto count) {
      const vec off = _mm512_maskz_sub_ps(first(count), load(from + i, count), all(mean));
      squares = squares + off * off;
    });
    const float inverse = 1.0f / std::sqrt(sum(squares) / float(width) + eps);
    statistics[2 * row] = mean;
    statistics[2 * row + 1] = inverse;
    in_vectors(width, [&](int64_t i, auto count) {
      vec normed = (load(from + i, count) - all(mean)) * all(inverse), factor = load(weight + i, count);
      if (double_rounding) normed = rounded_to_bf16(normed), factor = rounded_to_bf16(factor);
      normed = normed * factor;
      if (bias) normed = normed + load(bias + i, count);
      store(out + row * width + i, normed, count);
    });
  }
}

// grad_weight, grad_bias: [width] float32, or null. `beside`: null, or what else flows back into x, added to its gradient.
extern "C" void norm_backward(bool centred, const bf16* x, const bf16* grad, const float* weight,
                              const float* statistics, const bf16* beside, bf16* grad_x, float* grad_weight, float* grad_bias, int64_t rows,
                              int64_t width, int threads) {
  const int64_t chunks = (rows + CHUNK - 1) / CHUNK;
  std::vector<float> partial(grad_weight ? chunks * 2 * width : 0);
#pragma omp parallel for num_threads(threads)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    float *weights = partial.data() + chunk * 2 * width, *biases = weights + width;
    for (int64_t row = chunk * CHUNK; row < std::min(rows, (chunk + 1) * CHUNK); ++row) {
      const bf16 *from = x + row * width, *above = grad + row * width;
      const vec mean = all(statistics[2 * row]), inverse = all(statistics[2 * row + 1]);
      vec total = all(0), product = all(0);
      in_vectors(width, [&](int64_t i, auto count) {
        const vec normed = (load(from + i, count) - mean) * inverse, g = load(above + i, count);
        const vec inner = g * load(weight + i, count);
        total = total + inner;
        product = product + inner * normed;
        if (grad_weight) {
          store(weights + i, load(weights + i, count) + g * normed, count);
          store(biases + i, load(biases + i, count) + g, count);
        }
      });
      const vec about = all(centred ? sum(total) / float(width) : 0.0f), along = all(sum(product) / float(width));
      in_vectors(width, [&](int64_t i, auto count) {
        const vec normed = (load(from + i, count) - mean) * inverse;
        const vec inner = load(above + i, count) * load(weight + i, count);
        vec result = (inner - about - normed * along) * inverse;
        if (beside) result = result + load(beside + row * width + i, count);
        store(grad_x + row * width + i, result, count);
      });
    }
  }
  if (!grad_weight) return;
  std::fill_n(grad_weight, width, 0.0f);
  if (grad_bias) std::fill_n(grad_bias, width, 0.0f);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const float* weights = partial.data() + chunk * 2 * width;
    for (int64_t i = 0; i < width; ++i) grad_weight[i] += weights[i];
    if (grad_bias)
      for (int64_t i = 0; i < width; ++i) grad_bias[i] += weights[width + i];
  }
}

// losses[row] = log-sum-exp - (1 - smoothing) * target's logit - smoothing * mean logit; `logits`, [rows, vocab], become
// their gradient, times weights[row].
extern "C" void softmax_gradient(bf16* logits, int64_t ld, const int64_t* targets, const float* weights, float* losses,
                                 int64_t rows, int64_t vocab, float smoothing, int threads) {
#pragma omp parallel num_threads(threads)
  {
    auto wide = scratch<float>(vocab);
#pragma omp for
    for (int64_t row = 0; row < rows; ++row) {
      bf16* place = logits + row * ld;
      vec top = all(-INFINITY), plain = all(0), total = all(0);
      in_vectors(vocab, [&](int64_t i, auto count) {
        const vec logit = load(place + i, count);
        top = _mm512_mask_max_ps(top, first(count), logit, top);
        plain = plain + logit;
      });
      const float highest = _mm512_reduce_max_ps(top), chosen = widen(place[targets[row]]);
      in_vectors(vocab, [&](int64_t i, auto count) {
        const vec p = _mm512_maskz_mov_ps(first(count), exponential(load(place + i, count) - all(highest)));
        total = total + p;
        store(wide.get() + i, p, count);
      });
      const float whole = sum(total), weight = weights[row], even = smoothing / float(vocab);
      losses[row] = highest + std::log(whole) - (1 - smoothing) * chosen - even * sum(plain);
      const vec scale = all(weight / whole), less = all(weight * even);
      in_vectors(vocab, [&](int64_t i, auto count) {
        store(place + i, load(wide.get() + i, count) * scale - less, count);
      });
      place[targets[row]] = narrow(weight * (wide[targets[row]] / whole - even - (1 - smoothing)));
    }
  }
}

// The sum of the squares of `count` values, in one order whatever the number of threads.
extern "C" double sum_of_squares(const float* x, int64_t count, int threads) {
  constexpr int64_t MOST = 1 << 16;  // values whose squares are summed in float32, sixteen sums side by side
  const int64_t chunks = (count + MOST - 1) / MOST;
  std::vector<double> partial(chunks);
#pragma omp parallel for num_threads(threads)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const float* from = x + chunk * MOST;
    vec sums[4] = {all(0), all(0), all(0), all(0)};
    in_vectors(std::min(MOST, count - chunk * MOST), [&](int64_t i, auto many) {
      const vec value = load(from + i, many);
      sums[i / 16 % 4] = sums[i / 16 % 4] + value * value;
    });
    partial[chunk] = _mm512_reduce_add_ps((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
  double total = 0;
  for (double part : partial) total += part;
  return total;
}
