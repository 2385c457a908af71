#pragma once

#include "registration.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <sys/mman.h>
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
    explicit registration_pool(reactor* r) noexcept : reactor_(r) {}
    registration_pool(const registration_pool&) = delete;
    registration_pool& operator=(const registration_pool&) = delete;
    ~registration_pool() {
        for (registration_page* const p : pages_) {
            registration_directory::give_back(p->number);
            p->~registration_page();
        }
    }

    /// A free one. From any thread. @throws std::bad_alloc
    registration& take() {
        const magpie::detail::lock_guard guard(lock_);
        if (free_ == none)
            grow();
        registration& r = registration_directory::at(free_);
        free_ = r.next();
        return r;
    }

    /// Gives one back that no event can name.
    void put_back(registration& r) noexcept {
        const magpie::detail::lock_guard guard(lock_);
        free(r);
    }

    /// Gives one back whose descriptor has left the kernel's set. From any thread.
    void retire(registration& r) noexcept {
        const std::uint32_t number = registration_directory::number_of(r);
        std::uint32_t first = retired_.load(std::memory_order_relaxed); // checked by the CAS
        do {
            r.set_next(first);
            // (R). They are only taken all at once: no ABA.
        } while (!retired_.compare_exchange_weak(first, number, std::memory_order_release,
                                                 std::memory_order_relaxed));
    }

    /// The driver has applied all events that it had, and has not yet asked for new ones.
    void reclaim() noexcept {
        if (retired_.load(std::memory_order_relaxed) == none) // next time will do
            return;
        // (R) retire -> reclaim: the descriptor has left the set, so no later batch names it.
        std::uint32_t number = retired_.exchange(none, std::memory_order_acquire);
        const magpie::detail::lock_guard guard(lock_);
        while (number != none) {
            registration& r = registration_directory::at(number);
            number = r.next();
            free(r);
        }
    }

    /// Calls `f` for each registration, free ones too, with no lock held. Those that come into being
    /// meanwhile may be left out.
    template <class F>
    void for_each(F&& f) {
        for (std::size_t i = 0;; ++i) {
            registration_page* p;
            {
                const magpie::detail::lock_guard guard(lock_);
                if (i == pages_.size())
                    return;
                p = pages_[i];
            }
            for (registration& r : p->all)
                f(r);
        }
    }

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};
    static constexpr std::size_t largest_block = 32; // pages

    /// Memory for several pages, from the system; a page is made in it, and touched, when the one before is
    /// used up. (From `operator new` it would come with what the C library keeps around aligned memory.)
    class block {
    public:
        explicit block(std::size_t pages)
            : memory_(::mmap(nullptr, pages * registration_page::bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
              pages_(pages) {
            if (memory_ == MAP_FAILED)
                throw std::bad_alloc();
        }
        block(block&& other) noexcept
            : memory_(std::exchange(other.memory_, nullptr)), pages_(other.pages_) {}
        block& operator=(block&&) = delete;
        ~block() {
            if (memory_ != nullptr)
                ::munmap(memory_, pages_ * registration_page::bytes);
        }

        std::size_t pages() const noexcept { return pages_; }
        void* page(std::size_t i) const noexcept {
            return static_cast<std::byte*>(memory_) + i * registration_page::bytes;
        }

    private:
        void* memory_;
        std::size_t pages_;
    };

    void free(registration& r) noexcept { // under lock_
        r.set_next(free_);
        free_ = registration_directory::number_of(r);
    }

    void grow() {
        if (blocks_.empty() || used_of_last_ == blocks_.back().pages()) {
            blocks_.emplace_back(blocks_.empty() ? 1
                                                 : std::min(2 * blocks_.back().pages(), largest_block));
            used_of_last_ = 0;
        }
        const std::uint32_t number = registration_directory::take();
        try {
            pages_.push_back(nullptr);
        } catch (...) {
            registration_directory::give_back(number);
            throw;
        }
        pages_.back() = ::new (blocks_.back().page(used_of_last_++))
            registration_page(reactor_, number);
        registration_directory::enter(*pages_.back());
        for (std::size_t i = registration_page::count; i-- > 0;)
            free(pages_.back()->all[i]);
    }

    reactor* const reactor_;
    magpie::detail::atomic<std::uint32_t> retired_{none};
    magpie::detail::spin_lock lock_;
    std::uint32_t free_ = none;             // guarded by lock_, as what follows
    std::vector<registration_page*> pages_; // stand in the blocks
    std::vector<block> blocks_;
    std::size_t used_of_last_ = 0; // pages of the last block
};

} // namespace magpie::io::detail
