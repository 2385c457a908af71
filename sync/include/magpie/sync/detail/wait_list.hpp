#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/strand.hpp>

#include <utility>

namespace magpie::sync::detail {

/// The links of a list of waiters. Null: in no list.
struct wait_node {
    wait_node* previous = nullptr;
    wait_node* next = nullptr;
};

/// A leaf that stands in a `wait_list` while it waits: what `operation<Derived, waiter>` stands on.
class waiter : public leaf, private wait_node {
public:
    /// Whether it is in a list. A bound waiter that is in none is in a waker's hand: its `cancel` has to
    /// answer `coming`. To be asked under the list's lock.
    bool is_listed() const noexcept { return previous != nullptr; }

protected:
    waiter() noexcept = default;
    waiter(waiter&& other) noexcept : leaf(std::move(other)), wait_node() {
        MAGPIE_ASSERT(!other.is_listed());
    }
    ~waiter() = default;

private:
    friend class wait_list;
    friend class wake_list;
};

/// Waiters, first come first, guarded by the lock of whoever owns the list. O(1) throughout.
///
/// The protocol, for the sides that meet in it:
///   `publish`  under the lock: look once more, `push_back`, return true.
///   a waker    under the lock: take waiters out, onto a `wake_list` that was made before the lock;
///              note in them what they are handed. They are woken when both go, in that order.
///   `cancel`   under the lock: listed, `remove` and `quiet`; else `coming`, and what the waiter was
///              handed goes to the next when its operation is destroyed (R9).
class wait_list {
public:
    wait_list() noexcept { end_.previous = end_.next = &end_; }
    wait_list(const wait_list&) = delete;
    wait_list& operator=(const wait_list&) = delete;
    ~wait_list() { MAGPIE_ASSERT(empty()); }

    bool empty() const noexcept { return end_.next == &end_; }

    /// The first and the last; null if there is none.
    waiter* front() const noexcept { return at(end_.next); }
    waiter* back() const noexcept { return at(end_.previous); }

    void push_back(waiter& w) noexcept { link_before(end_, w); }
    void push_front(waiter& w) noexcept { link_before(*end_.next, w); }

    // Something else than a waiter, in front of them all: its owner takes it out before it takes waiters.
    void push_front(wait_node& n) noexcept { link_before(*end_.next, n); }
    wait_node& front_node() const noexcept { return *end_.next; }
    void remove(waiter& w) noexcept { remove(static_cast<wait_node&>(w)); }

    void remove(wait_node& n) noexcept {
        n.previous->next = n.next;
        n.next->previous = n.previous;
        n.previous = n.next = nullptr;
    }

private:
    friend class wake_list;

    waiter* at(wait_node* n) const noexcept { return n != &end_ ? static_cast<waiter*>(n) : nullptr; }
    static void link_before(wait_node& place, wait_node& n) noexcept {
        MAGPIE_ASSERT(n.previous == nullptr);
        n.previous = place.previous;
        n.next = &place;
        n.previous->next = &n;
        place.previous = &n;
    }

    wait_node end_;
};

/// Waiters that were taken out under a lock, to be woken, in that order, when this goes: so it is
/// made before the lock is taken.
class wake_list {
public:
    wake_list() noexcept = default;
    wake_list(const wake_list&) = delete;
    wake_list& operator=(const wake_list&) = delete;
    ~wake_list() {
        while (waiter* const w = pop())
            wake(*w);
    }

    /// Takes the first one off, for who has something else to do with it. Null if there is none.
    waiter* pop() noexcept {
        wait_node* const n = first_;
        if (n == nullptr)
            return nullptr;
        first_ = std::exchange(n->next, nullptr);
        if (first_ == nullptr)
            last_ = &first_;
        return static_cast<waiter*>(n);
    }

    /// Takes `w` out of `list`.
    void take(wait_list& list, waiter& w) noexcept {
        list.remove(w);
        append(w);
    }

    /// Takes everybody out. O(waiters).
    void take_all(wait_list& list) noexcept {
        while (waiter* const w = list.front())
            take(list, *w);
    }

    bool empty() const noexcept { return first_ == nullptr; }

private:
    void append(wait_node& n) noexcept {
        *last_ = &n;
        last_ = &n.next;
    }

    wait_node* first_ = nullptr;
    wait_node** last_ = &first_;
};

} // namespace magpie::sync::detail
