#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/sync/cancel_reason.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <utility>

namespace magpie::sync::detail {

/// What the nodes of one tree of tokens share: the lock of its structure.
struct cancellation_tree {
    static void* operator new(std::size_t size) { return magpie::detail::allocate_frame(size); }
    static void operator delete(void* p, std::size_t size) noexcept {
        magpie::detail::deallocate_frame(p, size);
    }

    magpie::detail::mutex lock; // not a spinning one: a cancel walks its descendants under it
    std::size_t nodes = 0;      // guarded by lock; who takes the last one out deletes the tree
};

/// A reason that the nodes share which were cancelled by it.
class shared_reason {
public:
    explicit shared_reason(cancel_reason r) noexcept : value(std::move(r)) {}

    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller holds one already
    }
    void release() noexcept {
        // Each release pairs with the last one's acquire: nobody reads it any more.
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            delete this;
    }

    const cancel_reason value;

private:
    magpie::detail::atomic<std::uint32_t> references_{1};
};

/// Hands a node's end on to a `std::stop_token`. It stands at the head of the list of waiters, where it
/// takes no room in nodes that have none.
struct stop_relay : wait_node {
    std::stop_source source;
};

/// One token's node in its tree.
//
// I1. A token, and an operation that waits for one, hold a reference: a node lives at least as long
//     as somebody can ask it.
// I2. A node without references that still has several children stays in the tree, as a `bridge`:
//     what cancels its parent has to reach them. With one child left it makes room for it. So there
//     are never more bridges than tokens, and to let go of a token costs O(1).
// I3. A cancelled node is in no tree structure any more: nothing will ever pass through it again.
// I4. Locks: the tree's, then a node's. Nobody is woken, and nothing is freed, under either.
class cancellation_node {
public:
    static void* operator new(std::size_t size) { return magpie::detail::allocate_frame(size); }
    static void operator delete(void* p, std::size_t size) noexcept {
        magpie::detail::deallocate_frame(p, size);
    }

    ~cancellation_node();

    /// The root of a new tree. @throws std::bad_alloc
    static cancellation_node* make_root();

    /// A child; one of a cancelled node is cancelled itself. @throws std::bad_alloc
    cancellation_node* make_child();

    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller holds one already
    }
    void release() noexcept {
        // Each release pairs with the last one's acquire: it sees what the others last did.
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            let_go();
    }

    bool is_cancelled() const noexcept {
        return cancelled_.load(std::memory_order_acquire); // pairs with the store in mark()
    }

    /// Cancels the node and all below it, then wakes who waits for one of them, and stops the stop
    /// tokens. Takes over the reason, which may be null.
    void cancel(shared_reason* reason) noexcept;

    /// Why it was cancelled; null if it was not, or for no reason.
    const cancel_reason* reason() const noexcept {
        return is_cancelled() && reason_ != nullptr ? &reason_->value : nullptr;
    }

    /// A stop token that is stopped with the node. @throws std::bad_alloc
    std::stop_token stop_token();

    /// Enters a waiter. False if the node is cancelled.
    bool enter(waiter& w) noexcept;

    /// Takes a waiter back. False if cancel() has it in hand.
    bool leave(waiter& w) noexcept;

private:
    explicit cancellation_node(cancellation_tree* tree) noexcept : tree_(tree) {}

    void let_go() noexcept;
    void cancel_tree(shared_reason* reason, wake_list& woken, stop_relay*& relays) noexcept;
    void mark(shared_reason* reason, wake_list& woken, stop_relay*& relays) noexcept;

    // Under the tree's lock:
    bool has_one_child() const noexcept {
        return first_child_ != nullptr && first_child_->next_ == nullptr;
    }
    void link_below(cancellation_node* parent) noexcept;
    void unlink() noexcept;
    void make_room() noexcept;
    cancellation_node* leave_parent() noexcept;

    stop_relay* take_relay() noexcept; // under lock_

    cancellation_tree* const tree_; // null: born cancelled

    // Guarded by the tree's lock.
    cancellation_node* parent_ = nullptr;
    cancellation_node* first_child_ = nullptr;
    union {
        cancellation_node* previous_ = nullptr; // siblings
        shared_reason* reason_;                 // once cancelled; it has no siblings then (I3)
    };
    cancellation_node* next_ = nullptr; // also of a list of nodes that left the tree
    bool is_bridge_ = false;

    bool has_relay_ = false;         // guarded by lock_: the first of the waiters is a stop_relay
    magpie::detail::spin_lock lock_; // of the waiters, and of the step from waiting to cancelled
    magpie::detail::atomic<bool> cancelled_{false};
    magpie::detail::atomic<std::uint32_t> references_{1};
    wait_list waiters_; // nobody enters once cancelled_
};

#if !defined(MAGPIE_MODEL)
static_assert(sizeof(cancellation_node) <= 64, "one block of the frame allocator");
#endif

} // namespace magpie::sync::detail
