#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/spin_lock.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace magpie::detail {

/// The tasks that have been idle: where a shutdown and a report find them. A task that ends in its
/// first turn never enters. In parts, by id, so that workers do not share a lock; ids are given
/// out so that a worker's tasks fall into a part of its own.
class registry {
public:
    explicit registry(std::size_t lanes) : count_(std::bit_ceil(lanes)), parts_(new part[count_]) {}

    /// How many ids apart the ids of one lane are.
    std::size_t stride() const noexcept { return count_; }

    /// False when closed. One that is being dropped is let in all the same: nobody has to abort it any
    /// more, and a report should have it.
    bool add(cell& c) noexcept {
        part& p = part_of(c);
        const lock_guard guard(p.lock);
        if (p.closed && !c.is_being_dropped())
            return false;
        c.registry_previous = nullptr;
        c.registry_next = p.first;
        if (p.first != nullptr)
            p.first->registry_previous = &c;
        p.first = &c;
        c.set_enrolled(true);
        return true;
    }

    void remove(cell& c) noexcept {
        part& p = part_of(c);
        const lock_guard guard(p.lock);
        (c.registry_previous != nullptr ? c.registry_previous->registry_next
                                        : p.first) = c.registry_next;
        if (c.registry_next != nullptr)
            c.registry_next->registry_previous = c.registry_previous;
    }

    /// Lets nobody in any more, and aborts all that are in.
    void close_and_abort() {
        for (std::size_t i = 0; i < count_; ++i) {
            std::vector<cell*> all;
            {
                const lock_guard guard(parts_[i].lock);
                parts_[i].closed = true;
                for (cell* c = parts_[i].first; c != nullptr; c = c->registry_next) {
                    c->retain(); // it leaves under this lock, so it is alive
                    all.push_back(c);
                }
            }
            for (cell* c : all) { // not under the lock: a wake takes others (R27)
                c->abort();
                c->release();
            }
        }
    }

    /// Calls `f(const cell&)` for each task that is in, under the part's lock.
    template <class F>
    void for_each(F&& f) const {
        for (std::size_t i = 0; i < count_; ++i) {
            const lock_guard guard(parts_[i].lock);
            for (const cell* c = parts_[i].first; c != nullptr; c = c->registry_next)
                f(*c);
        }
    }

private:
    struct alignas(64) part {
        mutable spin_lock lock;
        cell* first = nullptr;
        bool closed = false;
    };

    part& part_of(const cell& c) const noexcept { return parts_[c.id & (count_ - 1)]; }

    std::size_t count_;
    std::unique_ptr<part[]> parts_;
};

} // namespace magpie::detail
