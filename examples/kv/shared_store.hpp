#pragma once

#include "command.hpp"
#include "table.hpp"

#include <magpie/magpie.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

/// The keys of a service whose tasks run on any worker: one map for all, in stripes with a lock each.
///
/// A lock is held for one key and over no wait, so it is mostly free: then a request is answered
/// without a coroutine. A request with several keys sees each as it is at its moment.
class shared_store {
public:
    using stripe = magpie::sync::guarded<table>;

    // The upper bits of the hash: the table has the lower ones.
    stripe& stripe_of(const hashed_key& key) noexcept {
        return stripes_[key.hash >> (8 * sizeof key.hash - bits)].entries;
    }

private:
    struct alignas(64) padded { // a worker that writes one does not disturb who reads another
        stripe entries;
    };

    static constexpr unsigned bits = 8;

    std::array<padded, 1 << bits> stripes_;
};

/// The requests of one connection, answered out of a shared store. @see serve
class shared_requests {
public:
    explicit shared_requests(std::shared_ptr<shared_store> store) noexcept : store_(std::move(store)) {}

    /// Answers a request; false if another task is in the way: then `finish` is to be awaited.
    bool add(std::span<const std::string_view> arguments, std::string& out) {
        command& c = command_.emplace(arguments, out);
        while (!c.done()) {
            const hashed_key key(c.key());
            const auto held = store_->stripe_of(key).try_lock();
            if (!held)
                return false;
            c.apply(**held, key, out);
        }
        return true;
    }

    bool is_pending() const noexcept { return false; }

    magpie::task<> finish(std::string& out) {
        for (command& c = *command_; !c.done();) {
            const hashed_key key(c.key());
            auto held = co_await store_->stripe_of(key).lock();
            c.apply(*held, key, out);
        }
    }

private:
    std::shared_ptr<shared_store> store_;
    std::optional<command> command_;
};

} // namespace kv
