// A decoder's whole pass over the new tokens of many sequences, for a CPU that multiplies bfloat16.
//
// The stream stays in float32; what meets a weight, a key or a value is rounded to bfloat16 first, and where the weights
// are codes of few bits, to codes as well (codes.h).
#include "adapters.h"
#include "pages.h"
#include "team.h"

namespace {

struct Norm {
  const float *weight, *bias;  // weight: none where the family has no such norm
};

struct Layer {
  Matrix qkv, output, up, down;
  Norm attention_norm, feedforward_norm, attention_out_norm, feedforward_out_norm;
  const float *q_norm, *k_norm, *frequencies;  // none: heads are not normed, do not turn
  int64_t window;                              // 0: sees everything
};

struct Model {
  int64_t layers, width, heads, kv_heads, head_width, inner, vocab, turning;
  int64_t activation, gated, parallel, centred, position_offset;
  float eps, embedding_scale, score_scale, score_cap, logit_cap;
  const bf16* tokens;      // [vocab, width]
  const float* positions;  // [positions, width], or none
  Norm embedding_norm, final_norm;
  const Layer* layer;
  Matrix head;
  bf16* pages;
};

// The new tokens of each sequence lie side by side, `starts` says where; `table` holds the pages of each, a row a
// sequence.
struct Pass {
  int64_t rows, sequences, spoken, table_width;
  const int64_t *ids, *places;  // [rows]
  const int64_t* starts;        // [sequences + 1]
  const int32_t* table;         // [sequences, table_width]
  const int64_t* speaking;      // [spoken] rows whose logits are wanted
  float* logits;                // [spoken, vocab]
  const LowRank* const* adapters;  // [sequences] what is added for each, or none; none where nothing is for any
  int64_t adapters_inner;          // the most inner values of any
};

int64_t up(int64_t value) { return rounded(value, GROUP); }

void norm_row(const Model& model, const Norm& norm, const float* x, int64_t width, float* out) {
  vec total = all(0), squares = all(0);
  for (int64_t i = 0; i < width; i += 16) total = total + load(x + i, width - i);
  const vec mean = all(model.centred ? sum(total) / width : 0.0f);
  for (int64_t i = 0; i < width; i += 16) {
    const vec off = _mm512_maskz_mov_ps(first(width - i), load(x + i, width - i) - mean);
    squares = _mm512_fmadd_ps(off, off, squares);
  }
  const vec share = all(1.0f / std::sqrt(sum(squares) / width + model.eps));
  for (int64_t i = 0; i < width; i += 16) {
    vec y = (load(x + i, width - i) - mean) * share * load(norm.weight + i, width - i);
    if (norm.bias) y = y + load(norm.bias + i, width - i);
    store(out + i, y, width - i);
  }
}

vec activated(int64_t kind, vec x) {
  switch (kind) {
    case 0: {
      const vec twice = all(1.59576912f) * x * (all(1) + all(0.044715f) * x * x);
      return x * sigmoid(twice);
    }
    case 1: return x * normal_cumulative(x, exponential(all(-0.5f) * x * x));
    case 2: return x * sigmoid(x);
    default: return _mm512_max_ps(all(0), x);
  }
}

// What a row's heads become before they meet: normed, turned, rounded.
struct Turn {
  const float *cosines, *sines;
  int64_t half;
};

void head_of(const Model& model, const float* weight, const Turn& turn, const float* x, bf16* out) {
  const int64_t width = model.head_width;
  alignas(64) float normed[1024];
  if (weight) {
    Model centred_not = model;
    centred_not.centred = 0;
    norm_row(centred_not, Norm{weight, nullptr}, x, width, normed);
    x = normed;
  }
  for (int64_t i = 0; i < turn.half; ++i) {
    const float a = x[i], b = x[i + turn.half];
    out[i] = narrow(a * turn.cosines[i] - b * turn.sines[i]);
    out[i + turn.half] = narrow(b * turn.cosines[i] + a * turn.sines[i]);
  }
  for (int64_t i = 2 * turn.half; i < width; ++i) out[i] = narrow(x[i]);
}

struct Block {
  int64_t sequence, head, from, to;  // queries from..to of this sequence's new tokens x heads of the group
};

class Forward {
 public:
  Forward(const Model& model, const Pass& pass, int threads)
      : model(model),
        pass(pass),
        rows(pass.rows),
        width(up(model.width)),
        attended(up(model.heads * model.head_width)),
        inner(up(model.inner)),
        turns(std::max<int64_t>(model.turning / 2, 1)),
        team(threads, 20 * model.layers + 16),
        stream(scratch<float>(rows * width)),
        normed(scratch<bf16>(rows * width)),
        qkv(scratch<float>(rows * qkv_width())),
        queries(scratch<bf16>(rows * model.heads * model.head_width)),
        mixed(scratch<bf16>(rows * attended)),
        widened(scratch<bf16>(rows * inner)),
        added(scratch<float>(rows * width)),
        code_values(scratch<int8_t>(rows * widest())),
        code_scales(scratch<float>(rows * widest() / GROUP)),
        code_shares(scratch<float>(rows * widest() / GROUP)),
        code_starts(scratch<int32_t>(rows * widest() / GROUP)),
        angles(scratch<float>(2 * 2 * rows * turns)),
        adapters(pass.adapters, pass.adapters_inner, rows) {
    const int64_t group = model.heads / model.kv_heads;
    for (int64_t s = pass.sequences; s-- > 0;)
      for (int64_t head = 0; head < model.kv_heads; ++head) {
        const int64_t count = (pass.starts[s + 1] - pass.starts[s]) * group;
        for (int64_t from = 0; from < count; from += MOST_ROWS)
          blocks.push_back({s, head, from, std::min<int64_t>(from + MOST_ROWS, count)});
      }
    place_of.resize(rows);
    for (int64_t s = 0; s < pass.sequences; ++s)
      for (int64_t row = pass.starts[s]; row < pass.starts[s + 1]; ++row) place_of[row] = s;
  }

  void run() {
#pragma omp parallel num_threads(team.threads)
    {
      Team::Place place;
      auto row = scratch<float>(std::max(width, MOST_ROWS * model.head_width));
      Own own{place, row.get()};
      embed(own);
      for (int64_t layer = 0; layer < model.layers; ++layer) block(own, layer);
      finish(own);
    }
  }

 private:
  // What a thread has to itself.
  struct Own {
    Team::Place& place;
    float* row;
  };

  const Model& model;
  const Pass& pass;
  const int64_t rows, width, attended, inner, turns;
  Team team;
  Scratch<float> stream;    // [rows, width]
  Scratch<bf16> normed;     // [rows, width]
  Scratch<float> qkv;       // [rows, qkv_width]
  Scratch<bf16> queries;    // [rows, heads * head_width]
  Scratch<bf16> mixed;      // [rows, attended]
  Scratch<bf16> widened;    // [rows, inner]
  Scratch<float> added;     // [rows, width]
  Scratch<int8_t> code_values;  // of what the next product takes: [rows, inputs]
  Scratch<float> code_scales, code_shares;  // [rows, blocks]
  Scratch<int32_t> code_starts;             // [rows, blocks]
  Scratch<float> angles;    // [2 tables][2: cosines, sines][rows, turns]
  Adapters adapters;
  std::vector<Block> blocks;
  std::vector<int64_t> place_of;

  int64_t widest() const { return std::max({width, attended, inner}); }
  Codes codes() const { return {code_values.get(), code_scales.get(), code_shares.get(), code_starts.get()}; }
  int64_t qkv_width() const { return up((model.heads + 2 * model.kv_heads) * model.head_width); }

  // Rows are few when sequences decode: then a part is one of them.
  template <typename What>
  void by_rows(Own& own, const What& what) {
    team.share(own.place, rows, std::max<int64_t>(1, rows / (4 * team.threads)), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) what(row);
    });
  }

  const float* table_of(const Layer& layer) const {
    return angles.get() + (layer.frequencies == model.layer[0].frequencies ? 0 : 2 * rows * turns);
  }

  void embed(Own& own) {
    const float* tables[2] = {model.layer[0].frequencies, nullptr};
    for (int64_t i = 0; i < model.layers; ++i)
      if (model.layer[i].frequencies != tables[0]) tables[1] = model.layer[i].frequencies;
    by_rows(own, [&](int64_t row) {
      float* x = stream.get() + row * width;
      const bf16* token = model.tokens + pass.ids[row] * model.width;
      const float* place =
          model.positions ? model.positions + (pass.places[row] + model.position_offset) * model.width : nullptr;
      std::fill_n(x, width, 0.0f);
      for (int64_t i = 0; i < model.width; ++i) x[i] = widen(token[i]) * model.embedding_scale + (place ? place[i] : 0);
      if (model.embedding_norm.weight) norm_row(model, model.embedding_norm, x, model.width, x);
      for (int64_t t = 0; t < 2; ++t)
        if (tables[t])
          for (int64_t i = 0; i < model.turning / 2; ++i) {
            const float angle = float(pass.places[row]) * tables[t][i];
            angles[(2 * t * rows + row) * turns + i] = std::cos(angle);
            angles[((2 * t + 1) * rows + row) * turns + i] = std::sin(angle);
          }
    });
  }

  // The stream normed and rounded, into `normed`.
  void norm(Own& own, const Norm& norm, const Matrix& next) {
    by_rows(own, [&](int64_t row) {
      norm_row(model, norm, stream.get() + row * width, model.width, own.row);
      bf16* out = normed.get() + row * width;
      for (int64_t i = 0; i < width; i += 16) store(out + i, load(own.row + i, model.width - i));
      code(next, normed.get(), row);
    });
  }

  // A row of what a product takes, as codes where the weights are.
  void code(const Matrix& next, const bf16* x, int64_t row) {
    if (next.above()) code_row(x + row * next.inputs, next.inputs, next.above(), codes().at(row, next.inputs));
  }

  void code_rows(Own& own, const Matrix& next, const bf16* x) {
    if (next.above()) by_rows(own, [&](int64_t row) { code(next, x, row); });
  }

  template <typename Done>
  void product(Own& own, const Matrix& matrix, const bf16* x, int64_t count, const Done& done) {
    const int64_t panels = matrix.outputs / PANEL, part = panels > 128 ? 16 : 4;
    team.share(own.place, panels, part, [&](int64_t from, int64_t to) {
      panels_of(matrix, from, to, Input{x, codes()}, count, [&](int64_t panel, int64_t row, const float* out) {
        const float* bias = matrix.bias ? matrix.bias + panel * PANEL : nullptr;
        vec low = _mm512_load_ps(out), high = _mm512_load_ps(out + 16);
        if (bias) low = low + load(bias), high = high + load(bias + 16);
        done(panel, row, low, high);
      });
    });
  }

  // A projection of a block: the product, and what a row's adapter adds to it.
  template <typename Done>
  void project(Own& own, int64_t layer, Projection projection, const Matrix& matrix, const bf16* x, const Done& done) {
    if (adapters.any())
      by_rows(own, [&](int64_t row) {
        adapters.lower(layer, projection, row, place_of[row], x + row * matrix.inputs, matrix.inputs);
      });
    product(own, matrix, x, rows, [&](int64_t panel, int64_t row, vec low, vec high) {
      if (adapters.any()) adapters.raise(layer, projection, row, place_of[row], panel, low, high);
      done(panel, row, low, high);
    });
  }

  // Writes a product to rows of the stream's width, or adds it.
  auto into(float* to, bool add) {
    return [=, this](int64_t panel, int64_t row, vec low, vec high) {
      float* at = to + row * width + panel * PANEL;
      if (add) low = low + load(at), high = high + load(at + 16);
      store(at, low), store(at + 16, high);
    };
  }

  void block(Own& own, int64_t number) {
    const Layer& layer = model.layer[number];
    const bool apart = layer.attention_out_norm.weight != nullptr;
    norm(own, layer.attention_norm, layer.qkv);
    const int64_t heads = qkv_width();
    project(own, number, QKV, layer.qkv, normed.get(), [&](int64_t panel, int64_t row, vec low, vec high) {
      float* to = qkv.get() + row * heads + panel * PANEL;
      store(to, low), store(to + 16, high);
    });
    by_rows(own, [&](int64_t row) { take_in(number, row); });
    attention(own, number);
    code_rows(own, layer.output, mixed.get());
    // With parallel branches both read the stream as it was.
    float* to = apart || model.parallel ? added.get() : stream.get();
    project(own, number, OUTPUT, layer.output, mixed.get(), into(to, !(apart || model.parallel)));
    if (apart) add_normed(own, layer.attention_out_norm);
    norm(own, layer.feedforward_norm, layer.up);
    feedforward(own, number);
    code_rows(own, layer.down, widened.get());
    const bool last_apart = layer.feedforward_out_norm.weight != nullptr;
    if (model.parallel) {
      project(own, number, DOWN, layer.down, widened.get(), into(added.get(), true));
      by_rows(own, [&](int64_t row) {
        for (int64_t i = row * width; i < (row + 1) * width; i += 16)
          store(stream.get() + i, load(stream.get() + i) + load(added.get() + i));
      });
      return;
    }
    project(own, number, DOWN, layer.down, widened.get(),
            into(last_apart ? added.get() : stream.get(), !last_apart));
    if (last_apart) add_normed(own, layer.feedforward_out_norm);
  }

  void add_normed(Own& own, const Norm& norm) {
    by_rows(own, [&](int64_t row) {
      norm_row(model, norm, added.get() + row * width, model.width, own.row);
      float* x = stream.get() + row * width;
      for (int64_t i = 0; i < model.width; i += 16)
        store(x + i, load(x + i, model.width - i) + load(own.row + i, model.width - i), model.width - i);
    });
  }

  // Queries are rounded, keys and values go to their page.
  void take_in(int64_t number, int64_t row) {
    const Layer& layer = model.layer[number];
    const int64_t size = model.head_width, token = pass.places[row];
    const float* x = qkv.get() + row * qkv_width();
    const float* table = table_of(layer);
    const Turn turn{table + row * turns, table + (rows + row) * turns, layer.frequencies ? model.turning / 2 : 0};
    for (int64_t head = 0; head < model.heads; ++head)
      head_of(model, layer.q_norm, turn, x + head * size, queries.get() + (row * model.heads + head) * size);
    const Pages pages = all_pages();
    const int64_t page = pass.table[place_of[row] * pass.table_width + token / PAGE];
    alignas(64) bf16 key[1024], value[1024];
    for (int64_t head = 0; head < model.kv_heads; ++head) {
      head_of(model, layer.k_norm, turn, x + (model.heads + head) * size, key);
      const float* from = x + (model.heads + model.kv_heads + head) * size;
      for (int64_t i = 0; i < size; i += 16) store(value + i, load(from + i));
      pages.write(page, number, head, token % PAGE, key, value, row + 1 == pass.starts[place_of[row] + 1]);
    }
  }

  Pages all_pages() const { return {model.pages, model.layers, model.kv_heads, model.head_width}; }

  void attention(Own& own, int64_t number) {
    const int64_t group = model.heads / model.kv_heads, size = model.head_width, window = model.layer[number].window;
    const Pages pages = all_pages();
    const Scores scores{model.score_scale, model.score_cap};
    team.share(own.place, blocks.size(), 1, [&](int64_t from, int64_t to) {
      for (int64_t b = from; b < to; ++b) {
        const Block& work = blocks[b];
        Query query[MOST_ROWS];
        for (int64_t i = work.from; i < work.to; ++i) {
          const int64_t row = pass.starts[work.sequence] + i / group, head = work.head * group + i % group;
          const int64_t end = pass.places[row] + 1;
          query[i - work.from] = {queries.get() + (row * model.heads + head) * size,
                                  window ? std::max<int64_t>(0, end - window) : 0, end,
                                  mixed.get() + row * attended + head * size};
        }
        with_rows(work.to - work.from, [&](auto count) {
          attend<decltype(count)::value>(pages, pass.table + work.sequence * pass.table_width, number, work.head, scores,
                                         query, own.row);
        });
      }
    });
    // What fills the last block up is multiplied by zeros, and must be a number.
    const int64_t used = model.heads * size;
    if (number == 0 && used < attended)
      by_rows(own, [&](int64_t row) { std::fill(mixed.get() + row * attended + used, mixed.get() + (row + 1) * attended, bf16(0)); });
  }

  void feedforward(Own& own, int64_t number) {
    // Of a gated network a panel holds 16 gates and the 16 values that they let through.
    project(own, number, UP, model.layer[number].up, normed.get(), [&](int64_t panel, int64_t row, vec low, vec high) {
      bf16* to = widened.get() + row * inner;
      if (model.gated) {
        store(to + panel * 16, activated(model.activation, low) * high);
      } else {
        store(to + panel * PANEL, activated(model.activation, low));
        store(to + panel * PANEL + 16, activated(model.activation, high));
      }
    });
  }

  void finish(Own& own) {
    const int64_t spoken = pass.spoken;
    team.share(own.place, spoken, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        norm_row(model, model.final_norm, stream.get() + pass.speaking[i] * width, model.width, own.row);
        for (int64_t j = 0; j < width; j += 16) store(normed.get() + i * width + j, load(own.row + j, model.width - j));
        code(model.head, normed.get(), i);
      }
    });
    if (!spoken) return;
    product(own, model.head, normed.get(), spoken, [&](int64_t panel, int64_t row, vec low, vec high) {
      if (model.logit_cap != 0) {
        low = all(model.logit_cap) * tanh(low * all(1 / model.logit_cap));
        high = all(model.logit_cap) * tanh(high * all(1 / model.logit_cap));
      }
      float* to = pass.logits + row * model.vocab;
      store(to + panel * PANEL, low, model.vocab - panel * PANEL);
      store(to + panel * PANEL + 16, high, model.vocab - panel * PANEL - 16);
    });
  }
};

}  // namespace

extern "C" void decoder_forward(const Model* model, const Pass* pass, int threads) { Forward(*model, *pass, threads).run(); }
