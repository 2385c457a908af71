#pragma once

#include "registration.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace magpie::io::detail {

/// The memory of a reactor's registrations. It stays mapped as long as the reactor, and a removed
/// registration is not used again while an event may still name it: the kernel may have given the
/// event out before the removal, and the driver has it in hand. So what is removed waits here until
/// the driver begins its next turn, and asks the kernel anew.
///
/// Generation counts in place of that were considered: an event would have to be compared and applied
/// in one step, on each word.
class registration_pool {
public:
    registration_pool() noexcept = default;
    registration_pool(const registration_pool&) = delete;
    registration_pool& operator=(const registration_pool&) = delete;

    /// A free one. From any thread. @throws std::bad_alloc
    registration& take() {
        const magpie::detail::lock_guard guard(lock_);
        if (free_ == nullptr)
            grow();
        return *std::exchange(free_, free_->next_free);
    }

    /// Gives one back that no event can name.
    void put_back(registration& r) noexcept {
        const magpie::detail::lock_guard guard(lock_);
        r.next_free = std::exchange(free_, &r);
    }

    /// Gives one back whose descriptor has left the kernel's set. From any thread.
    void retire(registration& r) noexcept {
        registration* first = retired_.load(std::memory_order_relaxed); // checked by the CAS
        do {
            r.next_free = first;
            // (R). They are only taken all at once: no ABA.
        } while (!retired_.compare_exchange_weak(first, &r, std::memory_order_release,
                                                 std::memory_order_relaxed));
    }

    /// The driver has applied all events that it had, and has not yet asked for new ones.
    void reclaim() noexcept {
        if (retired_.load(std::memory_order_relaxed) == nullptr) // next time will do
            return;
        // (R) retire -> reclaim: the descriptor has left the set, so no later batch names it.
        registration* r = retired_.exchange(nullptr, std::memory_order_acquire);
        const magpie::detail::lock_guard guard(lock_);
        while (r != nullptr) {
            registration* const next = r->next_free;
            r->next_free = std::exchange(free_, r);
            r = next;
        }
    }

    /// Calls `f` for each registration, free ones too, with no lock held. Those that come into being
    /// meanwhile may be left out.
    template <class F>
    void for_each(F&& f) {
        for (std::size_t i = 0;; ++i) {
            block b;
            {
                const magpie::detail::lock_guard guard(lock_);
                if (i == blocks_.size())
                    return;
                b = block(blocks_[i].first.get(), blocks_[i].second);
            }
            for (std::size_t k = 0; k < b.second; ++k)
                f(b.first[k]);
        }
    }

private:
    using block = std::pair<registration*, std::size_t>;
    static constexpr std::size_t first_block = 64; // 4 KiB
    static constexpr std::size_t largest_block = 4096;

    void grow() {
        const std::size_t n = blocks_.empty() ? first_block
                                              : std::min(2 * blocks_.back().second, largest_block);
        blocks_.emplace_back(std::make_unique<registration[]>(n), n);
        registration* const first = blocks_.back().first.get();
        for (std::size_t i = n; i-- > 0;)
            first[i].next_free = std::exchange(free_, &first[i]);
    }

    magpie::detail::atomic<registration*> retired_{nullptr};
    magpie::detail::spin_lock lock_;
    registration* free_ = nullptr;                                                // guarded by lock_
    std::vector<std::pair<std::unique_ptr<registration[]>, std::size_t>> blocks_; // guarded by lock_
};

} // namespace magpie::io::detail
