#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/strand.hpp>

#include <utility>

namespace magpie::sync::detail {

/// A leaf's place in a list of waiters of more than one kind: it knows the leaf.
//
// In a list both links are set. Taken out, `previous` is null: that is how a cancel sees that the wake
// is coming; `next` then links those that one thread is about to wake.
class leaf_node {
public:
    explicit leaf_node(leaf& l) noexcept : waiter_(&l) {}
    leaf_node(const leaf_node&) = delete;
    leaf_node& operator=(const leaf_node&) = delete;

    bool linked() const noexcept { return previous_ != nullptr; }

private:
    friend class leaf_list;
    friend class wake_list;

    leaf* const waiter_; // null: a list's end
    leaf_node* previous_ = nullptr;
    leaf_node* next_ = nullptr;

    leaf_node() noexcept : waiter_(nullptr), previous_(this), next_(this) {}
};

/// A first-in-first-out list of leaves, guarded by its owner's lock. O(1) throughout.
class leaf_list {
public:
    leaf_list() noexcept = default;
    leaf_list(const leaf_list&) = delete;
    leaf_list& operator=(const leaf_list&) = delete;
    ~leaf_list() { MAGPIE_ASSERT(empty()); }

    bool empty() const noexcept { return end_.next_ == &end_; }

    /// The one that came first. @pre not empty
    leaf_node& first() noexcept { return *end_.next_; }

    void push_back(leaf_node& n) noexcept { insert_before(end_, n); }
    void push_front(leaf_node& n) noexcept { insert_before(*end_.next_, n); }

    void remove(leaf_node& n) noexcept {
        n.previous_->next_ = n.next_;
        n.next_->previous_ = n.previous_;
        n.previous_ = n.next_ = nullptr;
    }

private:
    static void insert_before(leaf_node& at, leaf_node& n) noexcept {
        n.next_ = &at;
        n.previous_ = at.previous_;
        n.previous_->next_ = &n;
        at.previous_ = &n;
    }

    leaf_node end_;
};

/// Waiters that were taken out of their lists under a lock, to be woken when it is released.
class wake_list {
public:
    wake_list() noexcept = default;
    wake_list(const wake_list&) = delete;
    wake_list& operator=(const wake_list&) = delete;
    ~wake_list() { wake_all(); }

    /// Takes a waiter out of `from`. Under the lock of `from`.
    void take(leaf_list& from, leaf_node& n) noexcept {
        from.remove(n);
        *last_ = &n;
        last_ = &n.next_;
    }

    /// Takes all of them.
    void take_all(leaf_list& from) noexcept {
        while (!from.empty())
            take(from, from.first());
    }

    /// Wakes them, first come first. Without the lock; the destructor does it too.
    void wake_all() noexcept {
        leaf_node* n = std::exchange(first_, nullptr);
        last_ = &first_;
        while (n != nullptr) {
            leaf_node* const next = n->next_; // before the wake, which may free the node
            wake(*n->waiter_);
            n = next;
        }
    }

private:
    leaf_node* first_ = nullptr;
    leaf_node** last_ = &first_;
};

} // namespace magpie::sync::detail
