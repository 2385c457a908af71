#include <magpie/core/detail/frame_allocator.hpp>

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/immortal.hpp>

#include <array>
#include <cstdint>
#include <new>
#include <utility>

#if defined(MAGPIE_NO_FRAME_ALLOCATOR)

// Sanitizers, valgrind, and users who bring an allocator of their own.
namespace magpie::detail {

void* allocate_frame(std::size_t size, std::size_t) {
    return ::operator new(size, std::align_val_t{frame_alignment});
}
void deallocate_frame(void* block, std::size_t size, std::size_t) noexcept {
    ::operator delete(block, size, std::align_val_t{frame_alignment});
}
void trim_frames() noexcept {}
std::size_t cached_frame_bytes() noexcept { return 0; }
std::size_t reserved_frame_bytes() noexcept { return 0; }

} // namespace magpie::detail

#else

#include <pthread.h>
#include <sys/mman.h>

// Three tiers. A thread keeps two magazines a size class: short lists of free blocks that only it
// touches. Whole magazines move to and from the depot of the class, in one step under its lock.
// The depot keeps some of them as they are, and sorts the rest into the chunks they came from; a
// chunk that is all free goes back to the system.

namespace magpie::detail {
namespace {

constexpr std::size_t class_count = recycled_classes;
constexpr std::size_t magazine_bytes = frame_cache_limit / class_count / 2;
constexpr std::size_t chunk_bytes = 256 * 1024;
constexpr std::size_t depot_magazines = 2048; // kept as they are until the next trim, a class
constexpr std::size_t spare_chunks = 64;      // kept empty until the next trim, over all classes

static_assert(magazine_bytes >= 4 * largest_recycled);

struct block {
    block* next;
    block* next_magazine; // in a full magazine's first block
};

static_assert(sizeof(block) <= smallest_block);

constexpr std::uint32_t magazine_size(std::size_t cls) noexcept {
    return static_cast<std::uint32_t>(magazine_bytes / bytes_of_class(cls));
}

/// A quarter megabyte, aligned to its size: the header of a block's chunk is found by its address.
struct alignas(frame_alignment) chunk {
    chunk* previous;
    chunk* next;
    block* free;
    std::uint32_t used;   // blocks that are out
    std::uint32_t carved; // blocks that were ever out; the memory behind them is untouched
    std::uint32_t capacity;
    std::uint32_t cls;

    char* at(std::uint32_t index) noexcept {
        return reinterpret_cast<char*>(this) + sizeof(chunk) + index * bytes_of_class(cls);
    }
};

chunk* chunk_of(void* p) noexcept {
    return reinterpret_cast<chunk*>(reinterpret_cast<std::uintptr_t>(p) & ~(chunk_bytes - 1));
}

atomic<std::size_t> reserved{0}; // a statistic: relaxed throughout

/// Address space from the system, with some empty chunks kept at hand.
class chunk_source {
public:
    void* take() {
        {
            const lock_guard guard(lock_);
            if (spare_ != nullptr) {
                --count_;
                return std::exchange(spare_, spare_->next);
            }
        }
        // Twice the size holds an aligned chunk; what stands over goes back at once.
        void* const raw = ::mmap(nullptr, 2 * chunk_bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (raw == MAP_FAILED)
            throw std::bad_alloc();
        const auto begin = reinterpret_cast<std::uintptr_t>(raw);
        const auto aligned = (begin + chunk_bytes - 1) & ~(chunk_bytes - 1);
        const std::size_t before = aligned - begin;
        if (before > 0)
            ::munmap(raw, before);
        ::munmap(reinterpret_cast<void*>(aligned + chunk_bytes), chunk_bytes - before);
        reserved.fetch_add(chunk_bytes, std::memory_order_relaxed);
        return reinterpret_cast<void*>(aligned);
    }

    void give(chunk* c) noexcept {
        {
            const lock_guard guard(lock_);
            if (count_ < spare_chunks) {
                ++count_;
                c->next = std::exchange(spare_, c);
                return;
            }
        }
        ::munmap(c, chunk_bytes);
        reserved.fetch_sub(chunk_bytes, std::memory_order_relaxed);
    }

    /// Gives the empty chunks that were kept to the system.
    void trim() noexcept {
        chunk* all;
        {
            const lock_guard guard(lock_);
            all = std::exchange(spare_, nullptr);
            count_ = 0;
        }
        while (all != nullptr) {
            chunk* const c = std::exchange(all, all->next);
            ::munmap(c, chunk_bytes);
            reserved.fetch_sub(chunk_bytes, std::memory_order_relaxed);
        }
    }

private:
    mutex lock_;
    chunk* spare_ = nullptr;
    std::size_t count_ = 0;
};

// Not destroyed at exit: frames may be freed by static destructors and by threads that run on.
chunk_source& chunks() noexcept { return immortal<chunk_source>(); }

/// What the threads share of one size class. Two classes share no line.
class alignas(64) depot {
public:
    /// A full magazine.
    block* take(std::size_t cls) {
        const lock_guard guard(lock_);
        if (block* const m = full_) {
            full_ = m->next_magazine;
            --full_count_;
            return m;
        }
        block* list = nullptr;
        for (std::uint32_t n = magazine_size(cls); n > 0; --n) {
            block* b;
            try {
                b = take_block(cls);
            } catch (...) {
                while (list != nullptr)
                    put_block(std::exchange(list, list->next));
                throw;
            }
            b->next = list;
            list = b;
        }
        return list;
    }

    void give(block* magazine) noexcept {
        const lock_guard guard(lock_);
        if (full_count_ < depot_magazines) {
            ++full_count_;
            magazine->next_magazine = std::exchange(full_, magazine);
        } else {
            put_list(magazine);
        }
    }

    /// Sorts a list of any length into the chunks, and the magazines kept here as well.
    void trim(block* list) noexcept {
        const lock_guard guard(lock_);
        put_list(list);
        while (full_ != nullptr)
            put_list(std::exchange(full_, full_->next_magazine));
        full_count_ = 0;
    }

    void* take_one(std::size_t cls) {
        const lock_guard guard(lock_);
        return take_block(cls);
    }
    void give_one(void* p) noexcept {
        const lock_guard guard(lock_);
        put_block(static_cast<block*>(p));
    }

private:
    block* take_block(std::size_t cls) {
        if (partial_ == nullptr)
            link(::new (chunks().take()) chunk{
                nullptr, nullptr, nullptr, 0, 0,
                static_cast<std::uint32_t>((chunk_bytes - sizeof(chunk)) / bytes_of_class(cls)),
                static_cast<std::uint32_t>(cls)});
        chunk& c = *partial_;
        block* b = c.free;
        if (b != nullptr)
            c.free = b->next;
        else
            b = ::new (static_cast<void*>(c.at(c.carved++))) block{};
        if (++c.used == c.capacity)
            unlink(&c);
        return b;
    }

    void put_list(block* list) noexcept {
        while (list != nullptr)
            put_block(std::exchange(list, list->next));
    }

    void put_block(block* b) noexcept {
        chunk* const c = chunk_of(b);
        if (c->used-- == c->capacity)
            link(c);
        b->next = std::exchange(c->free, b);
        if (c->used == 0) {
            unlink(c);
            chunks().give(c);
        }
    }

    void link(chunk* c) noexcept {
        c->previous = nullptr;
        c->next = std::exchange(partial_, c);
        if (c->next != nullptr)
            c->next->previous = c;
    }
    void unlink(chunk* c) noexcept {
        (c->previous != nullptr ? c->previous->next : partial_) = c->next;
        if (c->next != nullptr)
            c->next->previous = c->previous;
    }

    mutex lock_;
    block* full_ = nullptr;
    std::size_t full_count_ = 0;
    chunk* partial_ = nullptr; // chunks with a free block
};

depot& depot_of(std::size_t cls) noexcept {
    return immortal<std::array<depot, class_count>>()[cls]; // as chunks()
}

struct magazines {
    block* current = nullptr;
    block* spare = nullptr; // full, or null
    std::size_t room = 0;   // how many more current may take; 0 before the first use and after the last

    void put(void* p) noexcept {
        auto* const b = ::new (p) block; // next_magazine is set when it heads a full one
        b->next = std::exchange(current, b);
    }
};

enum class cache_state : unsigned char { fresh, alive, dead };

constexpr pthread_key_t no_key = ~pthread_key_t{0};

struct cache {
    magazines of[class_count];
    cache_state state = cache_state::fresh;
};

// Trivially destroyed, so that it can be used while other thread-locals are being destroyed.
thread_local constinit cache mine;

void give_all_back() noexcept {
    for (std::size_t cls = 0; cls < class_count; ++cls) {
        magazines& m = mine.of[cls];
        depot_of(cls).trim(std::exchange(m.spare, nullptr));
        depot_of(cls).trim(std::exchange(m.current, nullptr));
        if (mine.state == cache_state::alive)
            m.room = magazine_size(cls);
    }
}

/// Gives the lists back when the thread ends; what is freed later goes to the depot block by block.
void end_cache(void*) noexcept {
    trim_frames();
    for (magazines& m : mine.of)
        m.room = 0;
    mine.state = cache_state::dead;
}

/// Whether this thread has lists. They begin with its first use and end with the thread (with the process on
/// the thread of `main`).
bool has_cache() noexcept {
    if (mine.state == cache_state::fresh) {
        // Not a thread-local object with a destructor: without memory to note that, the C library crashes.
        // Of a key it says that there is none.
        static const pthread_key_t at_end = [] {
            pthread_key_t made{};
            if (::pthread_key_create(&made, &end_cache) != 0)
                made = no_key;
            return made;
        }();
        if (at_end == no_key || ::pthread_setspecific(at_end, &mine) != 0)
            return false;
        for (std::size_t cls = 0; cls < class_count; ++cls)
            mine.of[cls].room = magazine_size(cls);
        mine.state = cache_state::alive;
    }
    return mine.state == cache_state::alive;
}

[[gnu::noinline]] void* allocate_slowly(std::size_t cls) {
    if (!has_cache())
        return depot_of(cls).take_one(cls);
    magazines& m = mine.of[cls];
    m.current = m.spare != nullptr ? std::exchange(m.spare, nullptr) : depot_of(cls).take(cls);
    m.room = 1;
    return std::exchange(m.current, m.current->next);
}

[[gnu::noinline]] void deallocate_slowly(void* p, std::size_t cls) noexcept {
    if (!has_cache()) {
        depot_of(cls).give_one(p);
        return;
    }
    magazines& m = mine.of[cls];
    if (m.room == 0) {
        if (m.spare != nullptr)
            depot_of(cls).give(m.spare);
        m.spare = std::exchange(m.current, nullptr);
        m.room = magazine_size(cls);
    }
    --m.room;
    m.put(p);
}

} // namespace

void* allocate_recycled(std::size_t cls) {
    magazines& m = mine.of[cls];
    if (block* const b = m.current) [[likely]] {
        m.current = b->next;
        // What another thread has freed is in its caches: the next block's first lines come while this one is used.
        __builtin_prefetch(m.current, 1);
        __builtin_prefetch(reinterpret_cast<const char*>(m.current) + 64, 1);
        ++m.room;
        return b;
    }
    return allocate_slowly(cls);
}

void deallocate_recycled(void* p, std::size_t cls) noexcept {
    magazines& m = mine.of[cls];
    if (m.room > 0) [[likely]] {
        --m.room;
        m.put(p);
        return;
    }
    deallocate_slowly(p, cls);
}

void* allocate_large(std::size_t size) {
    return ::operator new(size, std::align_val_t{frame_alignment});
}
void deallocate_large(void* p, std::size_t size) noexcept {
    ::operator delete(p, size, std::align_val_t{frame_alignment});
}

void trim_frames() noexcept {
    give_all_back();
    chunks().trim();
}

std::size_t cached_frame_bytes() noexcept {
    if (mine.state != cache_state::alive)
        return 0;
    std::size_t sum = 0;
    for (std::size_t cls = 0; cls < class_count; ++cls) {
        const magazines& m = mine.of[cls];
        sum += bytes_of_class(cls) *
               (magazine_size(cls) - m.room + (m.spare != nullptr ? magazine_size(cls) : 0));
    }
    return sum;
}

std::size_t reserved_frame_bytes() noexcept { return reserved.load(std::memory_order_relaxed); }

} // namespace magpie::detail

#endif

#if defined(MAGPIE_LOCK_TRACE)

namespace magpie::detail {
namespace {

struct new_frame {
    const char* begin = nullptr;
    const char* end = nullptr;
};
thread_local constinit new_frame newest;

} // namespace

void note_new_frame(const void* block, std::size_t size) noexcept {
    const auto* const begin = static_cast<const char*>(block);
    newest = {begin, begin + size};
}

const void* end_of_new_frame(const void* promise) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(promise);
    const bool inside = at >= reinterpret_cast<std::uintptr_t>(newest.begin) &&
                        at < reinterpret_cast<std::uintptr_t>(newest.end);
    return inside ? newest.end : nullptr;
}

} // namespace magpie::detail

#endif
