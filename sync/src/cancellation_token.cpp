#include <magpie/sync/cancellation_token.hpp>

#include <magpie/core/error.hpp>

#include <memory>
#include <utility>

namespace magpie::sync {

namespace detail {

namespace {

using guard = magpie::detail::lock_guard<magpie::detail::mutex>;
using spin_guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;

struct release_reason {
    void operator()(shared_reason* r) const noexcept { r->release(); }
};

stop_relay* next_relay(const stop_relay& r) noexcept { return static_cast<stop_relay*>(r.next); }

} // namespace

cancellation_node* cancellation_node::make_root() {
    auto tree = std::make_unique<cancellation_tree>();
    tree->nodes = 1;
    auto* const root = new cancellation_node(tree.get());
    tree.release(); // with the root, the last of its nodes deletes it
    return root;
}

cancellation_node* cancellation_node::make_child() {
    if (!is_cancelled()) {
        std::unique_ptr<cancellation_node> child(new cancellation_node(tree_)); // not under the lock
        const guard structure(tree_->lock);
        // Relaxed: nodes are cancelled under the lock.
        if (!cancelled_.load(std::memory_order_relaxed)) {
            ++tree_->nodes;
            child->link_below(this);
            return child.release();
        }
    }
    auto* const child = new cancellation_node(nullptr);
    static_cast<void>(is_cancelled()); // acquire: the reason
    child->reason_ = reason_;
    if (reason_ != nullptr)
        reason_->retain();
    child->cancelled_.store(true, std::memory_order_relaxed); // nobody else knows it yet
    return child;
}

void cancellation_node::let_go() noexcept {
    if (tree_ == nullptr) { // born cancelled
        delete this;
        return;
    }
    cancellation_tree* const tree = tree_;
    cancellation_node* bridge = nullptr; // the parent, if that was one and is needed no more
    bool last = false;
    {
        const guard structure(tree->lock);
        if (first_child_ != nullptr && !has_one_child()) {
            is_bridge_ = true;
            return;
        }
        if (first_child_ != nullptr)
            make_room();
        else
            bridge = leave_parent();
        tree->nodes -= bridge != nullptr ? 2 : 1;
        last = tree->nodes == 0;
    }
    delete bridge;
    delete this;
    if (last)
        delete tree;
}

void cancellation_node::cancel(shared_reason* reason) noexcept {
    const std::unique_ptr<shared_reason, release_reason> ours(reason); // the nodes take their own
    stop_relay* relays = nullptr;
    {
        wake_list woken; // woken when it goes
        cancel_tree(reason, woken, relays);
    }
    // A waiter that was woken may have let go of the last reference to this node.
    while (relays != nullptr) { // last, for it runs users' callbacks
        const std::unique_ptr<stop_relay> relay(std::exchange(relays, next_relay(*relays)));
        relay->source.request_stop();
    }
}

void cancellation_node::cancel_tree(shared_reason* reason, wake_list& woken,
                                    stop_relay*& relays) noexcept {
    cancellation_node* bridges = nullptr; // of this subtree: nobody else deletes them
    if (tree_ == nullptr)
        return;
    {
        const guard structure(tree_->lock);
        // Relaxed: nodes are cancelled under the lock.
        if (cancelled_.load(std::memory_order_relaxed))
            return;
        if (cancellation_node* const bridge = leave_parent()) {
            bridge->next_ = std::exchange(bridges, bridge);
            --tree_->nodes;
        }
        // Each node is unlinked, marked, and leaves its children on the list: a tree of any depth
        // takes no stack, and falls into single nodes.
        for (cancellation_node* list = this; list != nullptr;) {
            cancellation_node* const n = std::exchange(list, list->next_);
            n->next_ = nullptr;
            while (cancellation_node* const child = n->first_child_) {
                child->unlink();
                child->next_ = std::exchange(list, child);
            }
            n->mark(reason, woken, relays);
            if (n->is_bridge_) {
                n->next_ = std::exchange(bridges, n);
                --tree_->nodes; // not the last: this node is still in the count
            }
        }
    }
    while (bridges != nullptr)
        delete std::exchange(bridges, bridges->next_);
}

cancellation_node::~cancellation_node() {
    delete take_relay(); // nobody else knows the node any more
    // Relaxed: as above.
    if (cancelled_.load(std::memory_order_relaxed) && reason_ != nullptr)
        reason_->release();
}

std::stop_token cancellation_node::stop_token() {
    auto made = std::unique_ptr<stop_relay>(); // not under the lock
    for (;;) {
        {
            const spin_guard waiters(lock_);
            // Relaxed: written under the lock.
            if (cancelled_.load(std::memory_order_relaxed))
                break;
            if (has_relay_)
                return static_cast<stop_relay&>(waiters_.front_other()).source.get_token();
            if (made != nullptr) {
                has_relay_ = true;
                waiters_.push_front_other(*made);
                return made.release()->source.get_token();
            }
        }
        made = std::make_unique<stop_relay>();
    }
    static const std::stop_token stopped = [] {
        std::stop_source source;
        source.request_stop();
        return source.get_token();
    }();
    return stopped;
}

/// What stands in the list, if it does; it belongs to the caller.
stop_relay* cancellation_node::take_relay() noexcept {
    if (!std::exchange(has_relay_, false))
        return nullptr;
    auto& relay = static_cast<stop_relay&>(waiters_.front_other());
    waiters_.remove_other(relay);
    return &relay;
}

void cancellation_node::mark(shared_reason* reason, wake_list& woken, stop_relay*& relays) noexcept {
    const spin_guard waiters(lock_);
    if (stop_relay* const relay = take_relay())
        relay->next = std::exchange(relays, relay);
    reason_ = reason; // it has left its siblings
    if (reason != nullptr)
        reason->retain();
    cancelled_.store(true, std::memory_order_release); // pairs with is_cancelled()
    woken.take_all(waiters_);
}

bool cancellation_node::enter(waiter& w) noexcept {
    const spin_guard waiters(lock_);
    if (cancelled_.load(std::memory_order_relaxed)) // written under the lock
        return false;
    waiters_.push_back(w);
    return true;
}

bool cancellation_node::leave(waiter& w) noexcept {
    const spin_guard waiters(lock_);
    if (!w.is_listed())
        return false;
    waiters_.remove(w);
    return true;
}

void cancellation_node::link_below(cancellation_node* parent) noexcept {
    parent_ = parent;
    previous_ = nullptr;
    next_ = std::exchange(parent->first_child_, this);
    if (next_ != nullptr)
        next_->previous_ = this;
}

void cancellation_node::unlink() noexcept {
    if (parent_ == nullptr) // a root, or cancelled
        return;
    (previous_ != nullptr ? previous_->next_ : parent_->first_child_) = next_;
    if (next_ != nullptr)
        next_->previous_ = previous_;
    parent_ = previous_ = next_ = nullptr;
}

/// Puts the only child in the node's place.
void cancellation_node::make_room() noexcept {
    cancellation_node* const parent = parent_;
    cancellation_node* const child = first_child_;
    child->unlink();
    unlink();
    if (parent != nullptr)
        child->link_below(parent); // else it is a root now
}

/// Unlinks. Gives the parent if that was a bridge and has made room for the one child it had left.
cancellation_node* cancellation_node::leave_parent() noexcept {
    cancellation_node* const parent = parent_;
    unlink();
    if (parent == nullptr || !parent->is_bridge_ || !parent->has_one_child())
        return nullptr;
    parent->make_room();
    return parent;
}

} // namespace detail

cancellation_token::cancellation_token() : node_(detail::cancellation_node::make_root()) {}

cancellation_token cancellation_token::child_token() const {
    return cancellation_token(node().make_child());
}

void cancellation_token::cancel() const { node().cancel(nullptr); }

void cancellation_token::cancel(cancel_reason why) const {
    detail::cancellation_node& n = node();
    if (!n.is_cancelled()) // else the reason comes too late
        n.cancel(new detail::shared_reason(std::move(why)));
}

void cancellation_token::throw_moved() {
    magpie::detail::throw_usage_error(
        "this cancellation_token was moved from: keep a copy of what is still used");
}

cancel_answer cancellation_token::cancelled_operation::cancel() noexcept {
    return token_.node_->leave(*this) ? cancel_answer::quiet : cancel_answer::coming;
}

} // namespace magpie::sync
