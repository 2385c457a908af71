#pragma once

#include <magpie/sync/guard.hpp>
#include <magpie/sync/guarded.hpp>
#include <magpie/sync/guarded_shared.hpp>
#include <magpie/sync/mutex.hpp>
#include <magpie/sync/shared_mutex.hpp>

#include <cstdint>
#include <utility>

namespace magpie::sync::detail {

/// What a `scoped_lock` sees of a lock: the permits that are the lock, and the guard of who has them.
struct lock_access {
    static permit_queue& queue(mutex& m) noexcept { return m.queue_; }
    static std::uint64_t amount(const mutex&) noexcept { return 1; }
    static traced_lock& traced(mutex& m) noexcept { return m.traced_; }
    static mutex::guard adopt(mutex& m, lock_entry&& entry) noexcept {
        return guard_access::make<mutex::guard>(&m, std::move(entry));
    }

    template <class T>
    static permit_queue& queue(guarded<T>& g) noexcept {
        return g.mutex_.queue_;
    }
    template <class T>
    static std::uint64_t amount(const guarded<T>&) noexcept {
        return 1;
    }
    template <class T>
    static traced_lock& traced(guarded<T>& g) noexcept {
        return traced(g.mutex_);
    }
    template <class T>
    static typename guarded<T>::guard adopt(guarded<T>& g, lock_entry&& entry) noexcept {
        return guard_access::make_locked(adopt(g.mutex_, std::move(entry)), g.value_);
    }

    static permit_queue& queue(shared_mutex& m) noexcept { return m.readers_; }
    static std::uint64_t amount(const shared_mutex& m) noexcept { return m.max_readers_; }
    static traced_lock& traced(shared_mutex& m) noexcept { return m.traced_; }
    static shared_mutex::guard adopt(shared_mutex& m, lock_entry&& entry) noexcept {
        return guard_access::make<shared_mutex::guard>(&m, std::move(entry));
    }

    template <class T>
    static permit_queue& queue(guarded_shared<T>& g) noexcept {
        return queue(g.mutex_);
    }
    template <class T>
    static std::uint64_t amount(const guarded_shared<T>& g) noexcept {
        return amount(g.mutex_);
    }
    template <class T>
    static traced_lock& traced(guarded_shared<T>& g) noexcept {
        return traced(g.mutex_);
    }
    template <class T>
    static typename guarded_shared<T>::guard adopt(guarded_shared<T>& g, lock_entry&& entry) noexcept {
        return guard_access::make_locked(adopt(g.mutex_, std::move(entry)), g.value_);
    }
};

} // namespace magpie::sync::detail
