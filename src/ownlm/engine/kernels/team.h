// The threads of one pass, and how they share its work.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

// A pass is a hundred short stages one after another. Between them threads wait here, spinning for some microseconds: to
// sleep and be woken takes longer than a stage. Who waits longer sleeps, for the one he waits for may need his processor.
class Team {
 public:
  Team(int threads, int64_t stages) : threads(threads), next_(stages) {}

  const int threads;

  // What one thread knows of where it is.
  struct Place {
    int64_t stage = 0;
  };

  // Runs what(from, to) for parts of 0..count, whoever is free, and waits until all are done. Every thread calls it alike.
  template <typename What>
  void share(Place& place, int64_t count, int64_t part, const What& what) {
    std::atomic<int64_t>& next = next_[place.stage++].value;
    for (int64_t from; (from = next.fetch_add(part, std::memory_order_relaxed)) < count;)
      what(from, std::min(from + part, count));
    wait();
  }

 private:
  // A counter on a cache line of its own.
  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };
  std::vector<Counter> next_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int64_t> round_{0};

  void wait() {
    if (threads == 1) return;
    const int64_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      round_.notify_all();
      return;
    }
    for (int tries = 0; tries < 2000; ++tries) {
      if (round_.load(std::memory_order_acquire) != round) return;
      _mm_pause();
    }
    round_.wait(round, std::memory_order_acquire);
  }
};
