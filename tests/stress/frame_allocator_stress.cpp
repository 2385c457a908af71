// Blocks that are taken on one thread and freed on another, by threads that come and go.

#include <magpie/core/detail/frame_allocator.hpp>

#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using magpie::detail::allocate_frame;
using magpie::detail::cached_frame_bytes;
using magpie::detail::deallocate_frame;
using magpie::detail::frame_cache_limit;
using magpie::detail::reserved_frame_bytes;
using magpie::detail::trim_frames;

namespace {

struct block {
    unsigned char* memory;
    std::size_t size;
    unsigned char fill;
};

block take(std::size_t size, unsigned char fill) {
    auto* const memory = static_cast<unsigned char*>(allocate_frame(size));
    std::memset(memory, fill, size);
    return {memory, size, fill};
}

/// Frees a block. Whether it was as it had been left.
bool give(const block& b) {
    bool intact = reinterpret_cast<std::uintptr_t>(b.memory) % 64 == 0;
    for (std::size_t i = 0; i < b.size; ++i)
        intact = intact && b.memory[i] == b.fill;
    deallocate_frame(b.memory, b.size);
    return intact;
}

/// Where threads leave blocks for others.
class exchange_place {
public:
    block swap(block mine, std::size_t at) {
        const std::lock_guard guard(lock_);
        if (blocks_.size() < 200) {
            blocks_.push_back(mine);
            return {nullptr, 0, 0};
        }
        std::swap(mine, blocks_[at % blocks_.size()]);
        return mine;
    }
    bool clear() {
        bool intact = true;
        for (const block& b : blocks_)
            intact = give(b) && intact;
        blocks_.clear();
        return intact;
    }

private:
    std::mutex lock_;
    std::vector<block> blocks_;
};

constexpr std::size_t kept_empty = 4 * 256 * 1024; // see the source

/// Takes blocks and frees those of others. Whether all were intact, and the lists bounded.
bool trade(exchange_place& place, unsigned seed, int times) {
    std::minstd_rand random(seed);
    bool right = true;
    std::vector<block> own;
    for (int i = 0; i < times; ++i) {
        const block theirs = place.swap(take(1 + random() % 1200, static_cast<unsigned char>(random())),
                                        random());
        if (theirs.memory != nullptr)
            right = give(theirs) && right;
        if (random() % 2 == 0) {
            own.push_back(take(1 + random() % 1200, static_cast<unsigned char>(random())));
        } else if (!own.empty()) {
            right = give(own.back()) && right;
            own.pop_back();
        }
        if (i % 1000 == 0)
            right = right && cached_frame_bytes() <= frame_cache_limit;
        if (i % 5000 == 4999)
            trim_frames();
    }
    for (const block& b : own)
        right = give(b) && right;
    return right;
}

} // namespace

TEST_SUITE("stress.frame_allocator") {
    TEST_CASE("CPP-09 threads that free each other's blocks") {
        trim_frames();
        const std::size_t before = reserved_frame_bytes();
        exchange_place place;
        constexpr unsigned threads = 4;
        bool right[threads] = {};
        {
            std::vector<std::thread> all;
            for (unsigned t = 0; t < threads; ++t)
                all.emplace_back([&, t] { right[t] = trade(place, t + 1, test::scaled(200'000)); });
            for (std::thread& t : all)
                t.join();
        }
        for (const bool r : right)
            CHECK(r);
        CHECK(place.clear());
        trim_frames();
        CHECK(reserved_frame_bytes() <= before + kept_empty);
    }

    TEST_CASE("threads that come and go, two at a time") {
        trim_frames();
        const std::size_t before = reserved_frame_bytes();
        exchange_place place;
        bool right = true;
        const int rounds = test::scaled(1'000);
        for (int i = 0; i < rounds; ++i) {
            bool a = false;
            bool b = false;
            std::thread first([&] { a = trade(place, static_cast<unsigned>(2 * i + 1), 200); });
            std::thread second([&] { b = trade(place, static_cast<unsigned>(2 * i + 2), 200); });
            first.join();
            second.join();
            right = right && a && b;
        }
        CHECK(right);
        CHECK(place.clear());
        trim_frames();
        CHECK(reserved_frame_bytes() <= before + kept_empty);
    }
}
