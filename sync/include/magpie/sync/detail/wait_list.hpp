#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/strand.hpp>

#include <utility>

namespace magpie::sync::detail {

template <class Waiter>
class basic_wait_list;
template <class Waiter>
class basic_wake_list;

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
    template <class Waiter>
    friend class basic_wait_list;
    template <class Waiter>
    friend class basic_wake_list;

    leaf& waiting() noexcept { return *this; }
};

/// A leaf's place in a list of leaves of several kinds, or that of a leaf which has more than one place:
/// it stands in the operation, and knows its leaf.
class wait_place : private wait_node {
public:
    explicit wait_place(leaf& l) noexcept : waiter_(&l) {}
    wait_place(const wait_place&) = delete;
    wait_place& operator=(const wait_place&) = delete;

    bool is_listed() const noexcept { return previous != nullptr; } ///< as a waiter's

private:
    template <class Waiter>
    friend class basic_wait_list;
    template <class Waiter>
    friend class basic_wake_list;

    leaf& waiting() noexcept { return *waiter_; }

    leaf* const waiter_;
};

/// Waiters, first come first, guarded by the lock of whoever owns the list. O(1) throughout.
///
/// The protocol, for the sides that meet in it:
///   `publish`  under the lock: look once more, `push_back`, return true.
///   a waker    under the lock: take waiters out, onto a wake list that was made before the lock;
///              note in them what they are handed. They are woken when both go, in that order.
///   `cancel`   under the lock: listed, `remove` and `quiet`; else `coming`, and what the waiter was
///              handed goes to the next when its operation is destroyed (R9).
template <class Waiter>
class basic_wait_list {
public:
    basic_wait_list() noexcept { end_.previous = end_.next = &end_; }
    basic_wait_list(const basic_wait_list&) = delete;
    basic_wait_list& operator=(const basic_wait_list&) = delete;
    ~basic_wait_list() { MAGPIE_ASSERT(empty()); }

    bool empty() const noexcept { return end_.next == &end_; }

    /// The first and the last; null if there is none.
    Waiter* front() const noexcept { return at(end_.next); }
    Waiter* back() const noexcept { return at(end_.previous); }

    void push_back(Waiter& w) noexcept { link_before(end_, w); }
    void push_front(Waiter& w) noexcept { link_before(*end_.next, w); }
    void remove(Waiter& w) noexcept { unlink(w); }

    // Something else than a waiter, in front of them all: its owner takes it out before it takes waiters.
    void push_front_other(wait_node& n) noexcept { link_before(*end_.next, n); }
    wait_node& front_other() const noexcept { return *end_.next; }
    void remove_other(wait_node& n) noexcept { unlink(n); }

private:
    Waiter* at(wait_node* n) const noexcept { return n != &end_ ? static_cast<Waiter*>(n) : nullptr; }
    static void link_before(wait_node& place, wait_node& n) noexcept {
        MAGPIE_ASSERT(n.previous == nullptr);
        n.previous = place.previous;
        n.next = &place;
        n.previous->next = &n;
        place.previous = &n;
    }
    static void unlink(wait_node& n) noexcept {
        n.previous->next = n.next;
        n.next->previous = n.previous;
        n.previous = n.next = nullptr;
    }

    wait_node end_;
};

/// Waiters that were taken out under a lock, to be woken, in that order, when this goes: so it is
/// made before the lock is taken.
template <class Waiter>
class basic_wake_list {
public:
    basic_wake_list() noexcept = default;
    basic_wake_list(const basic_wake_list&) = delete;
    basic_wake_list& operator=(const basic_wake_list&) = delete;
    ~basic_wake_list() {
        while (Waiter* const w = pop()) // off the list before the wake, after which it may be gone
            wake(w->waiting());
    }

    /// Takes the first one off, for who has something else to do with it. Null if there is none.
    Waiter* pop() noexcept {
        wait_node* const n = first_;
        if (n == nullptr)
            return nullptr;
        first_ = std::exchange(n->next, nullptr);
        if (first_ == nullptr)
            last_ = &first_;
        return static_cast<Waiter*>(n);
    }

    /// Takes `w` out of `list`.
    void take(basic_wait_list<Waiter>& list, Waiter& w) noexcept {
        list.remove(w);
        wait_node& n = w;
        *last_ = &n;
        last_ = &n.next;
    }

    /// Takes everybody out. O(waiters).
    void take_all(basic_wait_list<Waiter>& list) noexcept {
        while (Waiter* const w = list.front())
            take(list, *w);
    }

private:
    wait_node* first_ = nullptr;
    wait_node** last_ = &first_;
};

using wait_list = basic_wait_list<waiter>;
using wake_list = basic_wake_list<waiter>;

using place_list = basic_wait_list<wait_place>;
using place_wake_list = basic_wake_list<wait_place>;

} // namespace magpie::sync::detail
