#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/detail/composite.hpp>
#include <magpie/core/detail/promise.hpp>
#include <magpie/core/log.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/sync/detail/lock_entry.hpp>
#include <magpie/sync/lock_trace.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// For a build with MAGPIE_LOCK_TRACE: which waits for locks wait for each other.

namespace magpie::sync::detail {

inline std::string text_of(const lock_place& where) {
    return std::string(where.file_name()) + ":" + std::to_string(where.line());
}
inline std::string text_of(const lock_party& p) {
    std::string text = (p.is_task ? "task " : "thread ") + std::to_string(p.id);
    if (p.name[0] != '\0')
        text += " '" + std::string(p.name) + "'";
    return text;
}

/// Where one who waits holds a lock.
enum class found : unsigned char {
    nowhere,
    here,   ///< in the branch that waits: that goes on behind the wait alone
    around, ///< in one that awaits a composite of which the branch is a part
};

/// All entries of all locks, under a lock of their own: the innermost one, taken under those of queues.
//
// An edge leads from one that waits to another one that waits, and that holds what the first one needs, or
// stands in front of it. The frames of who waits do not change: so another thread can look at them.
class lock_graph {
public:
    magpie::detail::mutex lock;

    void link(lock_entry& e, bool in_front) noexcept {
        traced_lock& l = *e.lock_;
        if (l.first_ == nullptr) {
            l.previous_ = nullptr;
            l.next_ = std::exchange(first_, &l);
            if (l.next_ != nullptr)
                l.next_->previous_ = &l;
        }
        e.previous_ = in_front ? nullptr : l.last_;
        e.next_ = in_front ? l.first_ : nullptr;
        tell_neighbours(e);
    }
    void unlink(lock_entry& e) noexcept {
        traced_lock& l = *e.lock_;
        (e.previous_ != nullptr ? e.previous_->next_ : l.first_) = e.next_;
        (e.next_ != nullptr ? e.next_->previous_ : l.last_) = e.previous_;
        e.previous_ = e.next_ = nullptr;
        if (l.first_ != nullptr)
            return;
        (l.previous_ != nullptr ? l.previous_->next_ : first_) = l.next_;
        if (l.next_ != nullptr)
            l.next_->previous_ = l.previous_;
    }
    /// Puts `e` where `old` is.
    static void replace(lock_entry& old, lock_entry& e) noexcept {
        e.previous_ = std::exchange(old.previous_, nullptr);
        e.next_ = std::exchange(old.next_, nullptr);
        tell_neighbours(e);
    }

    /// What `e` needs and has itself: nobody lets go of it while `e` waits. Null: nothing.
    static const lock_entry* own_hold(const lock_entry& e) noexcept {
        for (const lock_entry* h = e.lock_->first_; h != nullptr; h = h->next_)
            if (needs(e, *h) && find(e, *h) == found::here)
                return h;
        return nullptr;
    }

    /// Notes a cycle that `e` closes, which begins to wait.
    void look_from(lock_entry& e) noexcept {
        if (may_be_needed(e))
            search(e, nullptr);
    }
    /// The same for one that is held from now on, where it is. A branch beside it may wait.
    void look_at(const lock_entry& h) noexcept {
        if (has_waiters(*h.lock_))
            each_waiting([&](lock_entry& w) {
                if (find(w, h) != found::nowhere)
                    search(w, &h);
            });
    }

    using message = std::pair<log_level, std::string>;
    std::vector<message> take_messages() noexcept { return std::exchange(messages_, {}); }
    /// Whether there was no memory for one.
    bool take_lost() noexcept { return std::exchange(has_lost_, false); }

    static lock_use use_of(const traced_lock& l) {
        lock_use use{name_of(l), {}, {}};
        for (const lock_entry* e = l.first_; e != nullptr; e = e->next_) {
            lock_user user{text_of(e->party_),
                           e->party_.is_task ? std::optional(e->party_.id) : std::nullopt, e->mode_,
                           e->where_, e->since_};
            (e->state_ == lock_entry::state::held ? use.owners : use.waiters)
                .push_back(std::move(user));
        }
        return use;
    }
    std::vector<lock_use> uses() const {
        std::vector<lock_use> all;
        for (const traced_lock* l = first_; l != nullptr; l = l->next_)
            all.push_back(use_of(*l));
        return all;
    }
    static std::string name_of(const traced_lock& l) {
        return l.name_ != nullptr ? "'" + std::string(l.name_) + "'" : address_of(l);
    }

private:
    static std::string address_of(const traced_lock& l) {
        char text[40];
        std::snprintf(text, sizeof text, "the lock at %p", static_cast<const void*>(&l));
        return text;
    }

    using state = lock_entry::state;
    using leaf_access = magpie::detail::leaf_access;

    static bool is_between(const void* begin, const void* p, const void* end) noexcept {
        const std::less<const void*> before;
        return !before(p, begin) && before(p, end);
    }

    static void tell_neighbours(lock_entry& e) noexcept {
        traced_lock& l = *e.lock_;
        (e.previous_ != nullptr ? e.previous_->next_ : l.first_) = &e;
        (e.next_ != nullptr ? e.next_->previous_ : l.last_) = &e;
    }

    /// Whether `n` gets nothing as long as `h` is as it is.
    static bool needs(const lock_entry& n, const lock_entry& h) noexcept {
        if (&h == &n || &h == n.kept_)
            return false;
        if (n.mode_ == lock_mode::upgradable && !n.has_place_)
            return h.has_place_;
        return h.state_ == state::held && (n.mode_ == lock_mode::exclusive || n.lock_->one_reader_ ||
                                           h.mode_ == lock_mode::exclusive);
    }

    /// Whether `h` stays as it is because `w` waits.
    static found find(const lock_entry& w, const lock_entry& h) noexcept {
        if (w.stack_end_ != nullptr)
            return is_between(w.stack_begin_, &h, w.stack_end_) ? found::here : found::nowhere;
        if (frames_hold(*w.branch_, h))
            return found::here;
        // What has come to where the frames around are since the wait began is what a sibling has come to. A
        // `select` has ended by that, and is about to drop `w`; a `join` keeps it.
        bool counts = h.put_ <= w.since_;
        const branch* b = w.branch_;
        while (const branch* const around = leaf_access::parent(*b)) {
            counts = counts || leaf_access::parent_waits_for_all(*b);
            if (frames_hold(*around, h))
                return counts ? found::around : found::nowhere;
            b = around;
        }
        return found::nowhere;
    }

    /// Whether `h` stands in a frame of the branch.
    static bool frames_hold(const branch& b, const lock_entry& h) noexcept {
        magpie::detail::promise_base* frame = leaf_access::innermost(b);
        while (frame != nullptr) {
            if (frame->frame_end != nullptr &&
                is_between(frame->handle().address(), &h, frame->frame_end))
                return true;
            const auto* const link = frame->link();
            frame = link != nullptr ? link->parent : nullptr;
        }
        return false;
    }

    static bool has_waiters(const traced_lock& l) noexcept {
        for (const lock_entry* e = l.first_; e != nullptr; e = e->next_)
            if (e->state_ == state::waiting)
                return true;
        return false;
    }

    template <class F>
    void each_waiting(F f) noexcept {
        for (traced_lock* l = first_; l != nullptr; l = l->next_)
            for (lock_entry* e = l->first_; e != nullptr; e = e->next_)
                if (e->state_ == state::waiting)
                    f(*e);
    }

    /// Calls `f(to, over)` for each edge of `n`: `to` waits, and has `over`, or is it.
    template <class F>
    void each_edge(const lock_entry& n, F f) noexcept {
        bool is_held = false;
        for (lock_entry* h = n.lock_->first_; h != nullptr; h = h->next_) {
            if (!needs(n, *h))
                continue;
            is_held = true;
            if (h->state_ == state::waiting)
                f(*h, *h);
            else
                each_waiting([&](lock_entry& w) {
                    if (find(w, *h) != found::nowhere)
                        f(w, *h);
                });
        }
        // A reader that nobody's hold is in the way of stands behind a writer.
        if (!is_held && (n.mode_ == lock_mode::shared || n.has_place_))
            for (lock_entry* w = n.previous_; w != nullptr; w = w->previous_)
                if (w->state_ == state::waiting && w->mode_ == lock_mode::exclusive)
                    f(*w, *w);
    }

    /// Whether an edge may lead to `e`, which begins to wait. Most who wait have nothing.
    bool may_be_needed(const lock_entry& e) const noexcept {
        if (e.has_place_ || e.next_ != nullptr) // it is in front of somebody
            return true;
        for (const traced_lock* l = first_; l != nullptr; l = l->next_)
            if (has_waiters(*l))
                for (const lock_entry* h = l->first_; h != nullptr; h = h->next_)
                    if (h->state_ != state::waiting && find(e, *h) != found::nowhere)
                        return true;
        return false;
    }

    /// Looks for a way from `start` back to it, the shortest one; if `closing` is not null, over that.
    void search(lock_entry& start, const lock_entry* closing) noexcept {
        ++searches_;
        start.met_ = searches_;
        start.met_from_ = start.to_visit_ = nullptr;
        lock_entry* last = &start;
        bool is_closed = false;
        for (lock_entry* n = &start; n != nullptr && !is_closed; n = n->to_visit_)
            each_edge(*n, [&](lock_entry& to, lock_entry& over) {
                if (is_closed)
                    return;
                if (&to == &start && (closing == nullptr || closing == &over)) {
                    is_closed = true;
                    note_cycle(*n, over);
                } else if (to.met_ != searches_) {
                    to.met_ = searches_;
                    to.met_from_ = n;
                    to.met_over_ = &over;
                    to.to_visit_ = nullptr;
                    last->to_visit_ = &to;
                    last = &to;
                }
            });
    }

    /// The last one met waits for the first one, over `over`.
    void note_cycle(lock_entry& last, const lock_entry& over) noexcept {
        try {
            std::vector<lock_entry*> all;
            for (lock_entry* e = &last; e != nullptr; e = e->met_from_)
                all.insert(all.begin(), e);
            const bool is_certain = std::ranges::all_of(all, [](const lock_entry* e) {
                return e->stack_end_ != nullptr || e->branch_ == &e->branch_->owner();
            });
            if (!is_certain && was_noted(all))
                return;
            std::string text = is_certain ? "deadlock between locks: "
                                          : "locks may be waited for for ever, if no time-out and no "
                                            "other branch ends a wait: ";
            for (std::size_t i = 0; i < all.size(); ++i) {
                const lock_entry& e = *all[i];
                const bool is_last = i + 1 == all.size();
                const lock_entry& next = is_last ? *all.front() : *all[i + 1];
                const lock_entry& by = is_last ? over : *next.met_over_;
                text += text_of(e.party_) + " waits at " + text_of(e.where_) + " for " +
                        name_of(*e.lock_) + ", ";
                text += by.state_ == state::waiting ? "behind " + text_of(next.party_) + "; "
                                                    : "which " + text_of(next.party_) +
                                                          " holds since " + text_of(by.where_) + "; ";
            }
            text += all.size() == 1 ? "let go of that guard first, or go on with it"
                                    : "take locks in one order everywhere, or together by scoped_lock";
            messages_.emplace_back(is_certain ? log_level::error : log_level::warning, std::move(text));
        } catch (const std::bad_alloc&) {
            has_lost_ = true;
        }
    }

    // A task that tries again after each time-out says so once, not for ever.
    bool was_noted(const std::vector<lock_entry*>& all) {
        std::size_t key = 0; // the same wherever the cycle begins
        for (const lock_entry* e : all)
            key += std::hash<std::string>()(text_of(e->where_) + address_of(*e->lock_));
        if (std::ranges::find(noted_, key) != noted_.end())
            return true;
        noted_[oldest_noted_] = key;
        oldest_noted_ = (oldest_noted_ + 1) % noted_.size();
        return false;
    }

    traced_lock* first_ = nullptr;
    std::uint64_t searches_ = 0;
    std::vector<message> messages_;
    bool has_lost_ = false;
    std::array<std::size_t, 64> noted_{};
    std::size_t oldest_noted_ = 0;
};

} // namespace magpie::sync::detail
