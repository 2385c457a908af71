#include <magpie/core/detail/frame_allocator.hpp>

#include <magpie/sync/event.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using magpie::detail::allocate_cell;
using magpie::detail::allocate_frame;
using magpie::detail::cached_frame_bytes;
using magpie::detail::deallocate_cell;
using magpie::detail::deallocate_frame;
using magpie::detail::frame_alignment;
using magpie::detail::frame_cache_limit;
using magpie::detail::reserved_frame_bytes;
using magpie::detail::trim_frames;

namespace {

#if defined(MAGPIE_NO_FRAME_ALLOCATOR)
constexpr bool recycles = false;
#else
constexpr bool recycles = true;
#endif

/// A block that knows what it is filled with.
class block {
public:
    block(std::size_t size, unsigned char fill, std::size_t alignment = frame_alignment)
        : memory_(static_cast<unsigned char*>(allocate_frame(size, alignment))), size_(size),
          alignment_(alignment), fill_(fill) {
        std::memset(memory_, fill, size);
    }
    block(block&& other) noexcept
        : memory_(std::exchange(other.memory_, nullptr)), size_(other.size_),
          alignment_(other.alignment_), fill_(other.fill_) {}
    block& operator=(block&& other) noexcept {
        std::swap(memory_, other.memory_);
        std::swap(size_, other.size_);
        std::swap(alignment_, other.alignment_);
        std::swap(fill_, other.fill_);
        return *this;
    }
    ~block() {
        if (memory_ != nullptr)
            deallocate_frame(memory_, size_, alignment_);
    }

    const void* address() const { return memory_; }
    bool is_aligned() const { return reinterpret_cast<std::uintptr_t>(memory_) % alignment_ == 0; }
    bool is_intact() const {
        for (std::size_t i = 0; i < size_; ++i)
            if (memory_[i] != fill_)
                return false;
        return true;
    }

private:
    unsigned char* memory_;
    std::size_t size_;
    std::size_t alignment_;
    unsigned char fill_;
};

/// What the allocator keeps, empty, for the next who needs it: see the source.
constexpr std::size_t kept_empty = 4 * 256 * 1024;

} // namespace

TEST_SUITE("core.frame_allocator") {
    TEST_CASE("blocks of every size are aligned to 64 and keep to themselves") {
        std::vector<block> blocks;
        for (std::size_t size = 1; size <= 4096; ++size)
            blocks.emplace_back(size, static_cast<unsigned char>(size));
        bool right = true;
        for (const block& b : blocks)
            right = right && b.is_aligned() && b.is_intact();
        CHECK(right);
    }

    TEST_CASE("a block that needs less than 64 is aligned as it needs, and in a smaller step") {
        std::vector<block> blocks;
        for (std::size_t alignment = 1; alignment <= 64; alignment *= 2)
            for (std::size_t size = 1; size <= 1100; ++size)
                blocks.emplace_back(size, static_cast<unsigned char>(size), alignment);
        bool right = true;
        for (const block& b : blocks)
            right = right && b.is_aligned() && b.is_intact();
        CHECK(right);
        if (!recycles)
            return;
        const auto distance = [](std::size_t alignment) { // of two blocks from one new chunk
            trim_frames();
            const block first(150, 1, alignment);
            const block second(150, 1, alignment);
            const auto a = reinterpret_cast<std::uintptr_t>(first.address());
            const auto b = reinterpret_cast<std::uintptr_t>(second.address());
            return a > b ? a - b : b - a;
        };
        CHECK(distance(8) == 152);
        CHECK(distance(16) == 160);
        CHECK(distance(64) == 192);
    }

    TEST_CASE("blocks stay intact while others come and go") {
        std::minstd_rand random(1); // NOLINT: the same each time
        std::vector<block> blocks;
        bool right = true;
        for (int i = 0; i < 20'000; ++i) {
            if (blocks.size() < 500 || random() % 2 == 0) {
                blocks.emplace_back(1 + random() % 1500, static_cast<unsigned char>(random()),
                                    random() % 2 == 0 ? 16 : 64);
                right = right && blocks.back().is_aligned();
            } else {
                std::swap(blocks[random() % blocks.size()], blocks.back());
                right = right && blocks.back().is_intact();
                blocks.pop_back();
            }
        }
        CHECK(right);
    }

    TEST_CASE("a block that was freed is the next of its size") {
        if (!recycles)
            return;
        const void* first = nullptr;
        {
            const block b(200, 1);
            first = b.address();
        }
        const block same_class(250, 2);
        CHECK(same_class.address() == first);
        const block other(1000, 3);
        CHECK(other.address() != first);
    }

    TEST_CASE("a cell never takes the place of a frame, nor a frame that of a cell") {
        if (!recycles)
            return;
        for (const std::size_t alignment : {32U, 64U})
            for (const std::size_t size : {1U, 96U, 100U, 128U, 150U, 192U, 256U}) {
                void* const cell = allocate_cell(size, alignment);
                deallocate_cell(cell, size, alignment);
                const block frame(size, 1, alignment);
                CHECK(frame.address() != cell);
                void* const next = allocate_cell(size, alignment);
                CHECK(next == cell);
                CHECK(reinterpret_cast<std::uintptr_t>(next) % alignment == 0);
                deallocate_cell(next, size, alignment);
            }
        for (std::size_t size = 1; size <= 2000;
             ++size) { // as large as it has to be, and back where it came from
            void* const cell = allocate_cell(size);
            std::memset(cell, 7, size);
            deallocate_cell(cell, size);
        }
    }

    TEST_CASE("what lies free on a thread is bounded") {
        for (std::size_t size = 1; size <= 1100; size += 50) {
            std::vector<block> blocks;
            for (int i = 0; i < 3000; ++i)
                blocks.emplace_back(size, 0);
            blocks.clear();
            CHECK(cached_frame_bytes() <= frame_cache_limit);
        }
        trim_frames();
        CHECK(cached_frame_bytes() == 0);
    }

    TEST_CASE("large blocks are not kept") {
        trim_frames();
        for (int i = 0; i < 100; ++i) {
            const block b(100'000, 7);
            CHECK(b.is_intact());
            CHECK(b.is_aligned());
        }
        CHECK(cached_frame_bytes() == 0);
    }

    TEST_CASE("CPP-09 blocks may be freed on another thread, which then uses them") {
        std::vector<block> blocks;
        for (int i = 0; i < 5000; ++i)
            blocks.emplace_back(100 + static_cast<std::size_t>(i) % 900, static_cast<unsigned char>(i));
        bool intact = true;
        std::size_t cached = 0;
        std::thread([&] {
            for (const block& b : blocks)
                intact = intact && b.is_intact();
            blocks.clear();
            cached = cached_frame_bytes();
            std::vector<block> own;
            for (int i = 0; i < 5000; ++i)
                own.emplace_back(100 + static_cast<std::size_t>(i) % 900,
                                 static_cast<unsigned char>(i));
            for (const block& b : own)
                intact = intact && b.is_intact() && b.is_aligned();
        }).join();
        CHECK(intact);
        CHECK(cached <= frame_cache_limit);
    }

    TEST_CASE("a thread that only takes and one that only frees need no more memory than is in use") {
        std::size_t most = 0;
        const std::size_t before = reserved_frame_bytes();
        for (int round = 0; round < 200; ++round) {
            std::vector<block> blocks;
            for (int i = 0; i < 1000; ++i)
                blocks.emplace_back(500, 1);
            std::thread([&] { blocks.clear(); }).join();
            most = std::max(most, reserved_frame_bytes());
        }
        CHECK(most <= before + 1000 * 512 + kept_empty + 2 * frame_cache_limit);
    }

    TEST_CASE("what a thread has taken is given back when it ends") {
        trim_frames();
        const std::size_t before = reserved_frame_bytes();
        std::size_t during = 0;
        std::thread([&] {
            std::vector<block> blocks;
            for (std::size_t i = 0; i < 100'000; ++i)
                blocks.emplace_back(1 + i % 1024, 1);
            during = reserved_frame_bytes();
        }).join();
        if (recycles)
            CHECK(during >= before + 100'000 * 512);
        CHECK(reserved_frame_bytes() <= before + kept_empty);

        for (int i = 0; i < 100; ++i) // threads that come and go leave nothing behind
            std::thread([] {
                for (std::size_t size = 1; size <= 1024; size += 64)
                    const block b(size, 1);
            }).join();
        CHECK(reserved_frame_bytes() <= before + kept_empty);
    }

    TEST_CASE("what is in use when a thread ends stays in use") {
        std::vector<block> blocks;
        std::thread([&] {
            for (int i = 0; i < 5000; ++i)
                blocks.emplace_back(300, static_cast<unsigned char>(i));
        }).join();
        std::vector<block> more;
        for (int i = 0; i < 5000; ++i)
            more.emplace_back(300, static_cast<unsigned char>(i + 1));
        bool intact = true;
        for (const block& b : blocks)
            intact = intact && b.is_intact();
        CHECK(intact);
        blocks.clear();
        for (const block& b : more)
            intact = intact && b.is_intact();
        CHECK(intact);
    }

    TEST_CASE("thread-locals may allocate and free while they are destroyed") {
        struct at_exit {
            std::vector<block>* out = nullptr;
            std::vector<block> kept;
            bool* intact = nullptr;
            ~at_exit() {
                for (int i = 0; i < 2000; ++i) {
                    const block b(400, static_cast<unsigned char>(i));
                    *intact = *intact && b.is_intact() && b.is_aligned();
                }
                for (const block& b : kept)
                    *intact = *intact && b.is_intact();
                kept.clear();
                for (int i = 0; i < 2000; ++i)
                    out->emplace_back(400, static_cast<unsigned char>(i));
            }
        };
        const std::size_t before = reserved_frame_bytes();
        bool intact = true;
        std::vector<block> out;
        const auto fill = [&](at_exit& a) {
            a.out = &out;
            a.intact = &intact;
        };
        SUBCASE("one made before the thread's first block, which dies after the lists") {
            std::thread([&] {
                static thread_local at_exit a;
                fill(a);
                for (int i = 0; i < 2000; ++i)
                    a.kept.emplace_back(400, static_cast<unsigned char>(i));
            }).join();
        }
        SUBCASE("one made after it, which dies before them") {
            std::thread([&] {
                const block first(400, 1);
                static thread_local at_exit a;
                fill(a);
                for (int i = 0; i < 2000; ++i)
                    a.kept.emplace_back(400, static_cast<unsigned char>(i));
            }).join();
        }
        SUBCASE("the first block of all") {
            std::thread([&] {
                static thread_local at_exit a;
                fill(a);
            }).join();
        }
        for (const block& b : out)
            intact = intact && b.is_intact();
        CHECK(intact);
        out.clear();
        trim_frames();
        CHECK(reserved_frame_bytes() <= before + kept_empty);
    }

    TEST_CASE("trim_frames gives what is empty to the system") {
        std::vector<block> blocks;
        for (std::size_t i = 0; i < 20'000; ++i)
            blocks.emplace_back(1024, 1);
        const std::size_t full = reserved_frame_bytes();
        blocks.clear();
        trim_frames();
        CHECK(cached_frame_bytes() == 0);
        if (recycles)
            CHECK(reserved_frame_bytes() + 15'000 * 1024 < full);
        trim_frames(); // nothing to do
        const block b(1024, 2);
        CHECK(b.is_intact());
    }

    TEST_CASE("frames and cells come from it: a spawn in the steady state takes no new memory") {
        test::manual_executor ex;
        auto f = []() -> magpie::task<int> {
            co_await magpie::yield_now();
            co_return 1;
        };
        const auto round = [&] {
            for (int i = 0; i < 100; ++i) {
                auto h = ex.spawn(f());
                ex.run_until_idle();
                CHECK(h.blocking_join() == 1);
            }
        };
        round();
        const std::size_t reserved = reserved_frame_bytes();
        const std::size_t cached = cached_frame_bytes();
        for (int i = 0; i < 10; ++i)
            round();
        CHECK(reserved_frame_bytes() == reserved);
        CHECK(cached_frame_bytes() == cached);
        if (recycles)
            CHECK(cached > 0);
    }

    TEST_CASE("CPP-09 a task that ends on another thread frees its frames there") {
        test::manual_executor ex;
        magpie::sync::event e;
        struct recursion {
            static magpie::task<int> down(int n, magpie::sync::event& ev) {
                int below = 0;
                if (n > 0)
                    below = co_await down(n - 1, ev);
                else
                    co_await ev.wait();
                co_return below + 1;
            }
        };
        auto h = ex.spawn(recursion::down(1000, e));
        ex.run_until_idle();
        int got = 0;
        std::size_t cached = 0;
        std::thread([&] {
            e.set();
            ex.run_until_idle();
            got = h.blocking_join();
            cached = cached_frame_bytes();
        }).join();
        CHECK(got == 1001);
        CHECK(cached <= frame_cache_limit);
    }
}
