#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace magpie::io::detail {

/// How many connections each shard has.
class connection_counts {
public:
    explicit connection_counts(std::size_t shards) : counts_(shards) {}
    std::size_t of(std::size_t shard) const noexcept {
        return counts_[shard].load(std::memory_order_relaxed); // a hint
    }
    std::size_t least() const noexcept;

    std::uint64_t moved() const noexcept { return moved_.load(std::memory_order_relaxed); }
    void count_move() noexcept { moved_.fetch_add(1, std::memory_order_relaxed); } // a statistic

    /// One more, as long as it lives.
    class one {
    public:
        one(std::shared_ptr<connection_counts> all, std::size_t shard) noexcept
            : all_(std::move(all)), shard_(shard) {
            all_->counts_[shard_].fetch_add(1, std::memory_order_relaxed); // a statistic
        }
        one(one&& other) noexcept = default;
        ~one() {
            if (all_ != nullptr)
                all_->counts_[shard_].fetch_sub(1, std::memory_order_relaxed);
        }

    private:
        std::shared_ptr<connection_counts> all_;
        std::size_t shard_;
    };

private:
    std::vector<magpie::detail::atomic<std::size_t>> counts_;
    magpie::detail::atomic<std::uint64_t> moved_{0};
};

/// Which connections have to leave their shard, by what the shards have served of late.
///
/// Each shard looks after so many of its own requests at what all have served since it last did. If it is above
/// the limit it gives connections to the one that has served least: those that serve the next requests, for they
/// are the ones that make it busy. As many as bring it, on average, to the mean, but not beyond; so nothing
/// goes where it would do no good, like the one connection that makes all the work, and nothing goes to and fro.
/// Nobody decides for others: what a shard writes here is its own, but for the count that they read.
class shard_balance {
public:
    /// @param limit   the imbalance above which connections leave
    /// @param window  requests of a shard between two looks
    shard_balance(std::size_t shards, double limit, std::size_t window);

    /// A connection has served a request, on `shard`, whose thread calls. Gives the shard to which it is to go.
    /// @param counted  the connection's own: the window in which it was counted; 0 when it begins on a shard
    std::optional<std::size_t> served(std::size_t shard, std::uint64_t& counted) noexcept {
        if (shards_.size() == 1)
            return std::nullopt;
        local& me = shards_[shard];
        // Relaxed, and no read-modify-write: one writer; the others want a recent value.
        const std::uint64_t n = me.served.load(std::memory_order_relaxed) + 1;
        me.served.store(n, std::memory_order_relaxed);
        if (counted != me.window) {
            counted = me.window;
            ++me.active;
        }
        if (n - me.seen[shard] >= window_) [[unlikely]]
            look(shard);
        if (me.to_give == 0) [[likely]]
            return std::nullopt;
        --me.to_give;
        return me.to;
    }

private:
    struct alignas(64) local {
        magpie::detail::atomic<std::uint64_t> served{0};
        std::uint64_t window = 1;        // its number
        std::uint64_t active = 0;        // connections that have served something in it
        std::vector<std::uint64_t> seen; // what each shard had served when it began
        std::uint64_t to_give = 0;       // connections that are to leave
        std::size_t to = 0;
    };

    void look(std::size_t shard) noexcept;

    const double limit_;
    const std::size_t window_;
    std::vector<local> shards_;
};

} // namespace magpie::io::detail
