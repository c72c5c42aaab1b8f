// Memory for tensors on a CPU: one long row of blocks, split and joined as they come and go.
//
// A step takes and gives back the same gigabytes again and again. The system's allocator either fetches fresh pages each
// time, or keeps them and seldom finds the hole that an aligned block left (glibc before 2.38), so that a third of its heap
// is holes. Here a freed block is joined with its free neighbours, the smallest one that is large enough is taken, and the
// row only grows when there is none. What is taken is counted, so there can be a limit that is an error and no killed
// process.
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

namespace {

constexpr size_t SMALLEST = 256 << 10;  // below it, blocks are the system's: they are many, and little in all
constexpr size_t STEP = 64 << 10;       // sizes are multiples of it, so that what is left over can be used
constexpr size_t LARGE_PAGE = 2 << 20;

class Row {
 public:
  // Reserves places, not memory: a page is there once it is written to.
  bool reserve(size_t bytes, size_t limit) {
    void* place = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) return false;
    begin_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(place) + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE);
    top_ = begin_;
    end_ = static_cast<char*>(place) + bytes;
    limit_ = limit;
    // Fewer page faults, and fewer misses when the kernels walk through a matrix.
    madvise(begin_, end_ - begin_, MADV_HUGEPAGE);
    return true;
  }

  bool holds(const void* place) const { return place >= begin_ && place < end_; }

  // Null where the row has no place left; an error where the limit is reached.
  void* take(size_t bytes) {
    const size_t size = (bytes + STEP - 1) / STEP * STEP;
    std::lock_guard<std::mutex> hold(lock);
    TORCH_CHECK(held_ + size <= limit_, "can't allocate memory: ", bytes, " bytes were asked for, ", held_,
                " are in use, and the machine has ", limit_, " for tensors");
    char* place = from_hole(size);
    if (!place) place = from_top(size);
    if (!place) return nullptr;
    used_[place] = size;
    held_ += size;
    most_ = std::max(most_, held_);
    return place;
  }

  // Returns how many bytes it was.
  size_t give(void* given) {
    std::lock_guard<std::mutex> hold(lock);
    const auto found = used_.find(static_cast<char*>(given));
    char* place = found->first;
    const size_t own = found->second;
    size_t size = own;
    used_.erase(found);
    held_ -= own;
    const auto after = holes_.lower_bound(place);
    if (after != holes_.end() && after->first == place + size) size += remove(after);
    const auto next = holes_.lower_bound(place);
    if (next != holes_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == place) {
        place = before->first;
        size += remove(before);
      }
    }
    add(place, size);
    return own;
  }

  // Gives the holes' pages back to the system; the places stay.
  void release() {
    std::lock_guard<std::mutex> hold(lock);
    for (const auto& [place, size] : holes_) madvise(place, size, MADV_DONTNEED);
  }

  size_t held() const { return held_; }
  size_t most() const { return most_; }
  size_t length() const { return top_ - begin_; }

  std::mutex lock;

 private:
  using Holes = std::map<char*, size_t>;

  char* from_hole(size_t size) {
    const auto best = by_size_.lower_bound({size, nullptr});
    if (best == by_size_.end()) return nullptr;
    char* place = best->second;
    const size_t whole = remove(holes_.find(place));
    if (whole > size) add(place + size, whole - size);
    return place;
  }

  char* from_top(size_t size) {
    char* place = top_;
    if (!holes_.empty()) {
      const auto last = std::prev(holes_.end());
      if (last->first + last->second == top_) place = last->first;
    }
    if (size > size_t(end_ - place)) return nullptr;
    if (place < top_) remove(holes_.find(place));
    top_ = place + size;
    return place;
  }

  void add(char* place, size_t size) {
    holes_[place] = size;
    by_size_.insert({size, place});
  }

  size_t remove(Holes::const_iterator hole) {
    const size_t size = hole->second;
    by_size_.erase({size, hole->first});
    holes_.erase(hole);
    return size;
  }

  char *begin_ = nullptr, *top_ = nullptr, *end_ = nullptr;
  size_t limit_ = 0, held_ = 0, most_ = 0;
  Holes holes_;                                  // by place
  std::set<std::pair<size_t, char*>> by_size_;   // the same by size
  std::unordered_map<char*, size_t> used_;
};

// Lives as long as the process: tensors outlast everything.
Row& row() {
  static Row* one = new Row;
  return *one;
}

// Profilers are told of blocks in the row alone: of the others nobody knows the size when they are freed.
void told(void* place, int64_t bytes) {
  if (c10::memoryProfilingEnabled())
    c10::reportMemoryUsageToProfiler(place, bytes, row().held(), row().length(), c10::Device(c10::DeviceType::CPU));
}

void release_block(void* place) {
  if (row().holds(place))
    told(place, -int64_t(row().give(place)));
  else
    std::free(place);
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* place = nullptr;
    if (bytes >= SMALLEST && (place = row().take(bytes))) {
      told(place, int64_t(bytes + STEP - 1) / STEP * STEP);
    } else if (bytes) {
      TORCH_CHECK(!posix_memalign(&place, 64, bytes), "can't allocate memory: ", bytes, " bytes were asked for");
    }
    return {place, place, &release_block, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_block; }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }
};

}  // namespace

// From now on the process's tensors lie in a row of `bytes` places, of which `limit` may be in use; false where the system
// does not give that many. To be called once.
extern "C" bool install(size_t bytes, size_t limit) {
  static Allocator* allocator = new Allocator;
  if (!row().reserve(bytes, limit)) return false;
  // A process that is forked must not inherit a lock that another thread held.
  pthread_atfork([] { row().lock.lock(); }, [] { row().lock.unlock(); }, [] { row().lock.unlock(); });
  c10::SetCPUAllocator(allocator, 1);
  return true;
}

extern "C" void release() { row().release(); }
extern "C" size_t held() { return row().held(); }
extern "C" size_t most() { return row().most(); }
extern "C" size_t length() { return row().length(); }
