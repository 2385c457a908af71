#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/spin_lock.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

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
        push(p.first, c);
        c.set_enrolled(true);
        return true;
    }

    void remove(cell& c) noexcept {
        part& p = part_of(c);
        const lock_guard guard(p.lock);
        p.unlink(c);
    }

    /// Lets nobody in any more, and aborts all that are in. Needs no memory.
    void close_and_abort() noexcept {
        for (std::size_t i = 0; i < count_; ++i) {
            part& p = parts_[i];
            for (;;) {
                cell* c;
                {
                    const lock_guard guard(p.lock);
                    p.closed = true;
                    c = p.first;
                    if (c == nullptr)
                        break;
                    c->retain(); // it leaves under this lock, so it is alive
                    p.unlink(*c);
                    push(p.aborted, *c);
                }
                c->abort(); // not under the lock: a wake takes others (R27)
                c->release();
            }
        }
    }

    /// Calls `f(const cell&)` for each task that is in, under the part's lock.
    template <class F>
    void for_each(F&& f) const {
        for (std::size_t i = 0; i < count_; ++i) {
            const lock_guard guard(parts_[i].lock);
            for (const cell* list : {parts_[i].first, parts_[i].aborted})
                for (const cell* c = list; c != nullptr; c = c->registry_next)
                    f(*c);
        }
    }

private:
    struct alignas(64) part {
        mutable spin_lock lock;
        cell* first = nullptr;
        cell* aborted = nullptr; // those that close_and_abort() has come to
        bool closed = false;

        void unlink(cell& c) noexcept {
            if (c.registry_previous != nullptr)
                c.registry_previous->registry_next = c.registry_next;
            else
                (first == &c ? first : aborted) = c.registry_next;
            if (c.registry_next != nullptr)
                c.registry_next->registry_previous = c.registry_previous;
        }
    };

    static void push(cell*& list, cell& c) noexcept {
        c.registry_previous = nullptr;
        c.registry_next = list;
        if (list != nullptr)
            list->registry_previous = &c;
        list = &c;
    }

    part& part_of(const cell& c) const noexcept { return parts_[c.id & (count_ - 1)]; }

    std::size_t count_;
    std::unique_ptr<part[]> parts_;
};

} // namespace magpie::detail
