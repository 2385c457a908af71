#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/strand.hpp>

#include <utility>

namespace magpie::sync::detail {

/// A leaf's place in a list of waiters. Null links: in no list.
struct wait_node {
    wait_node* previous = nullptr;
    wait_node* next = nullptr;

    bool linked() const noexcept { return previous != nullptr; }
};

/// A first-in-first-out list of waiters, guarded by its owner's lock. O(1) throughout.
class wait_list {
public:
    wait_list() noexcept { end_.previous = end_.next = &end_; }
    wait_list(const wait_list&) = delete;
    wait_list& operator=(const wait_list&) = delete;
    ~wait_list() { MAGPIE_ASSERT(empty()); }

    bool empty() const noexcept { return end_.next == &end_; }

    void push_back(wait_node& n) noexcept {
        n.previous = end_.previous;
        n.next = &end_;
        n.previous->next = &n;
        end_.previous = &n;
    }

    void remove(wait_node& n) noexcept {
        n.previous->next = n.next;
        n.next->previous = n.previous;
        n.previous = n.next = nullptr;
    }

    /// Takes everybody out; gives the first, linked by `next`, the last one's null.
    wait_node* take_all() noexcept {
        if (empty())
            return nullptr;
        wait_node* const first = end_.next;
        end_.previous->next = nullptr;
        for (wait_node* n = first; n != nullptr; n = n->next)
            n->previous = nullptr; // linked() is how a cancel sees that the wake is coming
        end_.previous = end_.next = &end_;
        return first;
    }

private:
    wait_node end_;
};

} // namespace magpie::sync::detail
