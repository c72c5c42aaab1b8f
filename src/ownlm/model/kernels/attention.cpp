// Attention of packed documents: scores exist for 32 queries or 32 keys at a time, in the cache.
//
// Forward, for 32 queries: all scores S = Q K^T they may see, softmax, O = P V; kept is only each row's log-sum-exp.
// Backward, for 32 keys: S^T and P^T are made again from it (Dao et al. 2022), then
//   dV = P^T dO,   dP^T = V dO^T,   dS^T = P^T (dP^T - rowsum(dO O)),   dK = dS^T Q,   dQ^T = K^T dS^T.
#include "vectors.h"

namespace {

// Bit b of the result: whether the query at `query + b` sees the key at `key + b`, where one of the two steps is 0.
struct Sight {
  int64_t queries, keys;  // in this document
  bool causal;
  int64_t window;  // 0: none

  // Keys [from, to) that queries [first, last] may see.
  int64_t from(int64_t query) const { return window ? std::max<int64_t>(0, query + 1 - window) : 0; }
  int64_t to(int64_t query) const {
    if (causal) return std::min(query + 1, keys);
    return window ? std::min(keys, query + window) : keys;
  }
  // Whether all of a block of 32 queries sees all of a block of 32 keys.
  bool whole(int64_t query, int64_t key) const {
    return query + 32 <= queries && from(query + 31) <= key && key + 32 <= to(query);
  }
  // Which of 16 keys from `key` on a query sees.
  __mmask16 keys_of(int64_t query, int64_t key) const {
    if (query >= queries) return 0;
    return first(to(query) - key) & ~first(from(query) - key);
  }
  // Which of 16 queries from `query` on see a key: the same turned around.
  __mmask16 queries_of(int64_t key, int64_t query) const {
    if (key >= keys) return 0;
    const int64_t before = causal ? key : window ? std::max<int64_t>(0, key + 1 - window) : 0;
    const int64_t after = window ? std::min(queries, key + window) : queries;
    return first(after - query) & ~first(before - query);
  }
};

struct Shape {
  const int64_t *query_starts, *key_starts;
  int64_t documents, heads, kv_heads, width;
  float scale, softcap;  // softcap 0: none
  bool causal;
  int64_t window;

  Sight sight(int64_t document) const {
    return {query_starts[document + 1] - query_starts[document], key_starts[document + 1] - key_starts[document], causal,
            window};
  }
};

struct Rows {
  bf16* data;
  int64_t ld;

  const bf16* at(int64_t row, int64_t column) const { return data + row * ld + column; }
};

// Scores as the softmax sees them; `slope` becomes their derivative, softcap's only.
template <bool CAPPED>
inline vec scaled(vec score, const Shape& shape, vec* slope) {
  if constexpr (!CAPPED) return score * all(shape.scale);
  const vec t = tanh(score * all(shape.scale / shape.softcap));
  if (slope) *slope = all(1) - t * t;
  return t * all(shape.softcap);
}

template <Layout LAYOUT>
Scratch<bf16> packed(const bf16* data, int64_t ld, int64_t count, int64_t depth) {
  const Operand<LAYOUT, bf16> operand{data, ld, count, depth};
  auto out = scratch<bf16>(operand.strips() * operand.tiles() * 2 * TILE);
  const Strips strips{out.get(), operand.tiles()};
  for (int64_t i = 0; i < operand.pieces(operand.strips()); ++i) operand.pack(i, 0, operand.strips(), strips);
  return out;
}

// Softmax of one row of scores over key strips [from, to): `probabilities` are not yet divided by the sum returned.
// scores: [strips][32][32] from this row on; probabilities: [strips][TILE * 2] likewise.
template <bool CAPPED>
float softmax_row(const Shape& shape, const Sight& sight, int64_t query, int64_t from, int64_t to, float* scores,
                  bf16* probabilities, float* log_sum) {
  vec top = all(-INFINITY);
  for (int64_t j = from; j < to; ++j) {
    for (int64_t half = 0; half < 32; half += 16) {
      float* place = scores + (j - from) * STRIP * STRIP + half;
      const vec score = scaled<CAPPED>(_mm512_load_ps(place), shape, nullptr);
      const vec seen = _mm512_mask_mov_ps(all(-INFINITY), sight.keys_of(query, j * STRIP + half), score);
      _mm512_store_ps(place, seen);
      top = _mm512_max_ps(seen, top);
    }
  }
  const float highest = query < sight.queries ? _mm512_reduce_max_ps(top) : 0.0f;
  vec total = all(0);
  for (int64_t j = from; j < to; ++j) {
    for (int64_t half = 0; half < 32; half += 16) {
      const vec seen = _mm512_load_ps(scores + (j - from) * STRIP * STRIP + half);
      // Far below the highest, e^x is 1e-45 rather than 0; what is not seen must be 0.
      const __mmask16 counts = _mm512_cmp_ps_mask(seen, all(-INFINITY), _CMP_NEQ_UQ);
      const vec p = _mm512_maskz_mov_ps(counts, exponential(seen - all(highest)));
      total = total + p;
      store(probabilities + (j - from) * 2 * TILE + half, p);
    }
  }
  const float whole = sum(total);
  *log_sum = highest + std::log(whole);
  return whole;
}

template <bool CAPPED>
void forward_of(const Shape& shape, int64_t document, int64_t kv_head, Rows q, Rows k, Rows v, Rows out, float* log_sums,
                int64_t rows) {
  const Sight sight = shape.sight(document);
  const int64_t width = shape.width, group = shape.heads / shape.kv_heads, start = shape.query_starts[document];
  const int64_t key_start = shape.key_starts[document], tiles = (width + 31) / 32, strips = (sight.keys + 31) / 32;
  auto keys = packed<Layout::transposed_pairs>(k.at(key_start, kv_head * width), k.ld, sight.keys, width);
  auto values = packed<Layout::pairs>(v.at(key_start, kv_head * width), v.ld, width, sight.keys);
  auto scores = scratch<float>(strips * STRIP * STRIP);
  auto probabilities = scratch<bf16>(strips * 2 * TILE), queries = scratch<bf16>(tiles * 2 * TILE);
  alignas(64) float sums[STRIP * STRIP];
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t query = 0; query < sight.queries; query += STRIP) {
      const int64_t count = std::min(STRIP, sight.queries - query);
      Operand<Layout::rows, bf16>{q.at(start + query, head * width), q.ld, count, width}.pack(0, 0, 1, Strips{queries.get(), tiles});
      const int64_t from = sight.from(query) / STRIP, to = (sight.to(query + count - 1) + STRIP - 1) / STRIP;
      for (int64_t j = from; j < to; ++j)
        multiply_strips(queries.get(), keys.get() + j * tiles * 2 * TILE, tiles,
                        scores.get() + (j - from) * STRIP * STRIP, STRIP, false);
      float share[STRIP];
      for (int64_t row = 0; row < STRIP; ++row) {
        float unused;
        float* log_sum = row < count ? log_sums + head * rows + start + query + row : &unused;
        bf16* place = probabilities.get() + row / 16 * TILE + row % 16 * 32;
        share[row] = 1.0f / softmax_row<CAPPED>(shape, sight, query + row, from, to, scores.get() + row * STRIP, place,
                                                log_sum);
      }
      for (int64_t column = 0; column < width; column += STRIP) {
        multiply_strips(probabilities.get(), values.get() + column / STRIP * strips * 2 * TILE + from * 2 * TILE,
                        to - from, sums, STRIP, false);
        for (int64_t row = 0; row < count; ++row) {
          bf16* to_row = out.data + (start + query + row) * out.ld + head * width + column;
          for (int64_t half = 0; half < 32 && column + half < width; half += 16)
            store(to_row + half, _mm512_load_ps(sums + row * STRIP + half) * all(share[row]), width - column - half);
        }
      }
    }
  }
}

// What the backward pass of one head reads and writes, in the layouts of its products.
struct Head {
  Scratch<bf16> q_turned, grad_turned;  // as B of K Q^T and V dO^T
  Scratch<bf16> q_pairs, grad_pairs;    // as B of dS^T Q and P^T dO
  Scratch<float> inner;                 // rowsum(dO O)
  Scratch<float> grad_q;                // transposed: [width / 32][queries / 32][32][32]

  Head(Rows q, Rows out, Rows grad, int64_t start, int64_t queries, int64_t column, int64_t width) {
    const bf16 *q_at = q.at(start, column), *grad_at = grad.at(start, column);
    q_turned = packed<Layout::transposed_pairs>(q_at, q.ld, queries, width);
    grad_turned = packed<Layout::transposed_pairs>(grad_at, grad.ld, queries, width);
    q_pairs = packed<Layout::pairs>(q_at, q.ld, width, queries);
    grad_pairs = packed<Layout::pairs>(grad_at, grad.ld, width, queries);
    inner = scratch<float>(rounded(queries, STRIP));
    std::fill_n(inner.get(), rounded(queries, STRIP), 0.0f);
    for (int64_t row = 0; row < queries; ++row) {
      vec total = all(0);
      for (int64_t i = 0; i < width; i += 16)
        total = total + load(out.at(start + row, column + i), width - i) * load(grad_at + row * grad.ld + i, width - i);
      inner[row] = sum(total);
    }
    const int64_t blocks = rounded(width, STRIP) * rounded(queries, STRIP);
    grad_q = scratch<float>(blocks);
    std::fill_n(grad_q.get(), blocks, 0.0f);
  }
};

// One block of P^T and dS^T, [32 keys][32 queries], from S^T and dP^T: as A (rows) and dS^T also as B (pairs of rows).
template <bool CAPPED>
void scores_gradient(const Shape& shape, const Sight& sight, int64_t key, int64_t query, const float* scores,
                     const float* grads, const float* log_sums, const float* inner, bf16* p_rows, bf16* ds_rows,
                     bf16* ds_pairs) {
  const bool whole = sight.whole(query, key);
  for (int64_t half = 0; half < 32; half += 16) {
    const vec log_sum = _mm512_load_ps(log_sums + half), mean = _mm512_load_ps(inner + half);
    __m512i even = _mm512_setzero_si512();
    for (int64_t row = 0; row < 32; ++row) {
      vec slope = all(1);
      const vec score = scaled<CAPPED>(_mm512_load_ps(scores + row * STRIP + half), shape, &slope);
      const __mmask16 seen = whole ? 0xffff : sight.queries_of(key + row, query + half);
      const vec p = _mm512_maskz_mov_ps(seen, exponential(score - log_sum));
      vec ds = p * (_mm512_load_ps(grads + row * STRIP + half) - mean) * all(shape.scale);
      if constexpr (CAPPED) ds = ds * slope;
      ds = _mm512_maskz_mov_ps(seen, ds);
      const int64_t place = row / 16 * TILE + row % 16 * 32 + half;
      store(p_rows + place, p);
      const __m256i narrowed = (__m256i)_mm512_cvtneps_pbh(ds);
      _mm256_store_si256(reinterpret_cast<__m256i*>(ds_rows + place), narrowed);
      const __m512i wide = _mm512_cvtepu16_epi32(narrowed);
      if (row % 2)
        _mm512_store_si512(ds_pairs + half / 16 * TILE + row / 2 * 32, _mm512_or_si512(even, _mm512_slli_epi32(wide, 16)));
      else
        even = wide;
    }
  }
}

void store_rows(const float* sums, int64_t rows, int64_t columns, Rows out, int64_t row, int64_t column) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t half = 0; half < 32 && half < columns; half += 16)
      store(out.data + (row + i) * out.ld + column + half, _mm512_load_ps(sums + i * STRIP + half), columns - half);
}

// A block of [32][32] whose columns become rows.
void store_turned(const float* sums, int64_t rows, int64_t columns, Rows out, int64_t row, int64_t column) {
  alignas(64) float turned[STRIP * STRIP];
  for (int64_t a = 0; a < 32; a += 16) {
    for (int64_t b = 0; b < 32; b += 16) {
      __m512i r[16];
      for (int i = 0; i < 16; ++i) r[i] = _mm512_load_si512(sums + (a + i) * STRIP + b);
      transpose(r);
      for (int i = 0; i < 16; ++i) _mm512_store_si512(turned + (b + i) * STRIP + a, r[i]);
    }
  }
  store_rows(turned, rows, columns, out, row, column);
}

constexpr int64_t KEY_BLOCK = 8;  // strips of keys between two visits to the queries' gradients

template <bool CAPPED>
void backward_of(const Shape& shape, int64_t document, int64_t kv_head, Rows q, Rows k, Rows v, Rows out, Rows grad,
                 const float* log_sums, int64_t rows, Rows grad_q, Rows grad_k, Rows grad_v) {
  const Sight sight = shape.sight(document);
  const int64_t width = shape.width, group = shape.heads / shape.kv_heads, start = shape.query_starts[document];
  const int64_t key_start = shape.key_starts[document], tiles = (width + 31) / 32, column = kv_head * width;
  const int64_t strips = (sight.queries + 31) / 32, key_strips = (sight.keys + 31) / 32, block = STRIP * STRIP;
  const bf16 *k_at = k.at(key_start, column), *v_at = v.at(key_start, column);
  auto keys = packed<Layout::rows>(k_at, k.ld, sight.keys, width);
  auto values = packed<Layout::rows>(v_at, v.ld, sight.keys, width);
  auto keys_turned = packed<Layout::transposed>(k_at, k.ld, width, sight.keys);
  auto p_rows = scratch<bf16>(strips * 2 * TILE), ds_rows = scratch<bf16>(strips * 2 * TILE);
  auto ds_pairs = scratch<bf16>(strips * KEY_BLOCK * 2 * TILE);
  // [width / 32][keys / 32][32][32]
  auto sums_k = scratch<float>(tiles * key_strips * block), sums_v = scratch<float>(tiles * key_strips * block);
  auto padded = scratch<float>(strips * STRIP);
  alignas(64) float scores[STRIP * STRIP], grads[STRIP * STRIP];
  for (int64_t member = 0; member < group; ++member) {
    const int64_t head = kv_head * group + member;
    Head of(q, out, grad, start, sight.queries, head * width, width);
    std::copy_n(log_sums + head * rows + start, sight.queries, padded.get());
    std::fill(padded.get() + sight.queries, padded.get() + strips * STRIP, 0.0f);
    for (int64_t first_key = 0; first_key < key_strips; first_key += KEY_BLOCK) {
      const int64_t last_key = std::min(first_key + KEY_BLOCK, key_strips);
      for (int64_t j = first_key; j < last_key; ++j) {
        // Strips of queries that see one of these keys.
        const int64_t low = shape.causal                ? j
                            : shape.window && j * STRIP >= shape.window ? (j * STRIP + 1 - shape.window) / STRIP
                                                                        : 0;
        const int64_t reach = shape.window ? (j * STRIP + STRIP - 1 + shape.window - 1) / STRIP + 1 : strips;
        const int64_t from = std::min(low, strips), to = std::max(from, std::min(reach, strips));
        for (int64_t i = 0; i < strips; ++i) {
          bf16* pairs = ds_pairs.get() + (i * KEY_BLOCK + j - first_key) * 2 * TILE;
          if (i < from || i >= to) {
            std::fill_n(pairs, 2 * TILE, bf16(0));
            continue;
          }
          const int64_t place = i * tiles * 2 * TILE;
          multiply_strips(keys.get() + j * tiles * 2 * TILE, of.q_turned.get() + place, tiles, scores, STRIP, false);
          multiply_strips(values.get() + j * tiles * 2 * TILE, of.grad_turned.get() + place, tiles, grads, STRIP, false);
          scores_gradient<CAPPED>(shape, sight, j * STRIP, i * STRIP, scores, grads, padded.get() + i * STRIP,
                                  of.inner.get() + i * STRIP, p_rows.get() + i * 2 * TILE, ds_rows.get() + i * 2 * TILE,
                                  pairs);
        }
        for (int64_t c = 0; c < tiles; ++c) {
          const int64_t place = (c * strips + from) * 2 * TILE, at = (c * key_strips + j) * block;
          multiply_strips(p_rows.get() + from * 2 * TILE, of.grad_pairs.get() + place, to - from, sums_v.get() + at, STRIP,
                          member > 0);
          multiply_strips(ds_rows.get() + from * 2 * TILE, of.q_pairs.get() + place, to - from, sums_k.get() + at, STRIP,
                          member > 0);
        }
      }
      for (int64_t i = shape.causal ? first_key : 0; i < strips; ++i)
        for (int64_t c = 0; c < tiles; ++c)
          multiply_strips(keys_turned.get() + (c * key_strips + first_key) * 2 * TILE,
                          ds_pairs.get() + i * KEY_BLOCK * 2 * TILE, last_key - first_key,
                          of.grad_q.get() + (c * strips + i) * block, STRIP, true);
    }
    for (int64_t i = 0; i < strips; ++i)
      for (int64_t c = 0; c < tiles; ++c)
        store_turned(of.grad_q.get() + (c * strips + i) * block, std::min(STRIP, sight.queries - i * STRIP),
                     width - c * STRIP, grad_q, start + i * STRIP, head * width + c * STRIP);
  }
  for (int64_t j = 0; j < key_strips; ++j) {
    for (int64_t c = 0; c < tiles; ++c) {
      const int64_t count = std::min(STRIP, sight.keys - j * STRIP), at = (c * key_strips + j) * block;
      store_rows(sums_k.get() + at, count, width - c * STRIP, grad_k, key_start + j * STRIP, column + c * STRIP);
      store_rows(sums_v.get() + at, count, width - c * STRIP, grad_v, key_start + j * STRIP, column + c * STRIP);
    }
  }
}

// Runs what(document, kv_head) for all of them, each by one thread alone.
template <typename What>
void for_each(const Shape& shape, int threads, What what) {
#pragma omp parallel num_threads(threads)
  {
    Unit unit;
#pragma omp for schedule(dynamic) collapse(2)
    for (int64_t document = 0; document < shape.documents; ++document)
      for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head)
        if (shape.query_starts[document + 1] > shape.query_starts[document]) what(document, kv_head);
  }
}

}  // namespace

// q, out: [rows, heads * width]; k, v: [key rows, kv_heads * width]; log_sums: [heads, rows] float32.
extern "C" void attention_forward(const Shape* shape, const Rows* q, const Rows* k, const Rows* v, const Rows* out,
                                  float* log_sums, int64_t rows, int threads) {
  for_each(*shape, threads, [&](int64_t document, int64_t kv_head) {
    if (shape->softcap)
      forward_of<true>(*shape, document, kv_head, *q, *k, *v, *out, log_sums, rows);
    else
      forward_of<false>(*shape, document, kv_head, *q, *k, *v, *out, log_sums, rows);
  });
}

extern "C" void attention_backward(const Shape* shape, const Rows* q, const Rows* k, const Rows* v, const Rows* out,
                                   const Rows* grad, const float* log_sums, int64_t rows, const Rows* grad_q,
                                   const Rows* grad_k, const Rows* grad_v, int threads) {
  for_each(*shape, threads, [&](int64_t document, int64_t kv_head) {
    if (shape->softcap)
      backward_of<true>(*shape, document, kv_head, *q, *k, *v, *out, *grad, log_sums, rows, *grad_q, *grad_k, *grad_v);
    else
      backward_of<false>(*shape, document, kv_head, *q, *k, *v, *out, *grad, log_sums, rows, *grad_q, *grad_k, *grad_v);
  });
}
