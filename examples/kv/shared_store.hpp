#pragma once

#include "command.hpp"
#include "table.hpp"

#include <magpie/magpie.hpp>

#include <array>
#include <cstddef>
#include <string>

namespace kv {

/// The keys of a service whose tasks run on any worker: one map for all, in stripes with a lock each.
///
/// A lock is held for one key and over no wait, so it is mostly free: then a request is answered
/// without a coroutine. A request with several keys sees each as it is at its moment.
class shared_store {
public:
    using stripe = magpie::sync::guarded<table>;

    /// Goes on with a command until it is done: nullptr; or the stripe that is locked by another task.
    stripe* advance(command& c, std::string& out) {
        while (!c.done()) {
            const hashed_key key(c.key());
            stripe& s = stripe_of(key);
            auto held = s.try_lock();
            if (!held)
                return &s;
            c.apply(**held, key, out);
        }
        return nullptr;
    }

    /// The same, after a wait for the stripe that was in its way.
    static void apply(stripe::guard& held, command& c, std::string& out) {
        c.apply(*held, hashed_key(c.key()), out);
    }

private:
    struct alignas(64) padded { // a worker that writes one does not disturb who reads another
        stripe entries;
    };

    static constexpr unsigned bits = 8;

    // The upper bits of the hash: the table has the lower ones.
    stripe& stripe_of(const hashed_key& key) noexcept {
        return stripes_[key.hash >> (8 * sizeof key.hash - bits)].entries;
    }

    std::array<padded, 1 << bits> stripes_;
};

} // namespace kv
