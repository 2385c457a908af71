#include <magpie/scheduler/detail/task_set.hpp>

#include <magpie/core/error.hpp>

#include <utility>

namespace magpie::detail {

// --- the word ---

bool set_word::arrive(set_member& m) noexcept {
    std::uintptr_t seen = word_.load(std::memory_order_relaxed); // checked by the CAS below
    for (;;) {
        if ((seen & gone) != 0) {
            if (count_out(1))
                delete this;
            return false;
        }
        const bool waited_for = (seen & waits) != 0;
        m.next_ended = waited_for ? nullptr : reinterpret_cast<set_member*>(seen);
        // Release: (E). Acquire: (L). After it the member belongs to the set, and both may be gone.
        if (word_.compare_exchange_weak(seen, reinterpret_cast<std::uintptr_t>(&m),
                                        std::memory_order_acq_rel, std::memory_order_relaxed)) {
            if (waited_for)
                wake(leaf_of(seen));
            return true;
        }
    }
}

ended_list set_word::take() noexcept {
    // Relaxed: nothing to take, or the exchange below reads it.
    const std::uintptr_t seen = word_.load(std::memory_order_relaxed);
    if (seen == 0 || (seen & waits) != 0)
        return {};
    return in_order(word_.exchange(0, std::memory_order_acquire)); // (E)
}

bool set_word::wait(leaf& l) noexcept {
    std::uintptr_t seen = 0;
    // Success: (L). Failure: relaxed, take() reads what is there.
    return word_.compare_exchange_strong(seen, of(l), std::memory_order_release,
                                         std::memory_order_relaxed);
}

cancel_answer set_word::withdraw(leaf& l) noexcept {
    std::uintptr_t seen = of(l);
    // Relaxed: the leaf goes back to its own strand, and nothing else was handed over.
    return word_.compare_exchange_strong(seen, 0, std::memory_order_relaxed, std::memory_order_relaxed)
               ? cancel_answer::quiet
               : cancel_answer::coming;
}

ended_list set_word::leave(std::size_t outstanding) noexcept {
    const std::uintptr_t seen = word_.exchange(outstanding * one | gone,
                                               std::memory_order_acq_rel); // (E) in, (G) out
    if ((seen & waits) != 0) { // nobody has ended: *this belongs to the members already
        wake(leaf_of(seen));
        return {};
    }
    const ended_list ended = in_order(seen);
    if (ended.count > 0 && count_out(ended.count))
        delete this;
    return ended;
}

ended_list set_word::in_order(std::uintptr_t word) noexcept {
    ended_list list;
    for (auto* m = reinterpret_cast<set_member*>(word); m != nullptr; ++list.count) {
        set_member* const next = m->next_ended;
        if (list.last == nullptr)
            list.last = m;
        m->next_ended = std::exchange(list.first, m);
        m = next;
    }
    return list;
}

/// Whether they were the last.
bool set_word::count_out(std::size_t n) noexcept {
    return word_.fetch_sub(n * one, std::memory_order_acq_rel) == (n * one | gone); // (G)
}

// --- the set ---

task_set::task_set(std::size_t limit) : limit_(limit) {
    if (limit == 0)
        throw_usage_error(
            "a set of tasks with a limit of 0 could never hold a task: give it at least 1");
}

void throw_set_is_full() {
    throw_usage_error("this set of tasks is full: co_await its spawn_when_free(), which waits for a "
                      "place, or ask full() first");
}

task_set::~task_set() {
    forget_woken();
    if (joiner_ != nullptr || first_place_ != nullptr)
        fatal("a set of tasks is destroyed while a branch waits for it: end that wait first, or keep "
              "the set outside of the branches",
              __FILE__, __LINE__);
    abort_all();
    detach_all();
    delete word_;
}

void task_set::swap(task_set& other) noexcept {
    std::swap(word_, other.word_);
    std::swap(members_, other.members_);
    std::swap(ended_, other.ended_);
    std::swap(last_ended_, other.last_ended_);
    std::swap(outstanding_, other.outstanding_);
    std::swap(limit_, other.limit_);
}

set_word& task_set::word() {
    if (word_ == nullptr)
        word_ = new set_word;
    return *word_;
}

void task_set::add(set_member& m) noexcept {
    members_.push_back(m);
    ++outstanding_;
    if (first_place_ != nullptr) // nobody's leaf may stand in the word, if this is the only task
        attend();
}

set_member* task_set::pop() noexcept {
    if (ended_ == nullptr && outstanding_ > 0)
        take_ended();
    set_member* const m = ended_;
    if (m != nullptr) {
        ended_ = m->next_ended;
        members_.remove(*m);
    }
    if (joiner_ != nullptr || first_place_ != nullptr)
        attend();
    return m;
}

void task_set::put_back(set_member& m) noexcept {
    m.next_ended = std::exchange(ended_, &m);
    if (m.next_ended == nullptr)
        last_ended_ = &m;
    members_.push_back(m);
    attend();
}

void task_set::detach_all() noexcept {
    forget_woken();
    set_member* lists[] = {std::exchange(ended_, nullptr), nullptr};
    members_ = task_list();
    if (const std::size_t outstanding = std::exchange(outstanding_, 0); outstanding > 0) {
        lists[1] = std::exchange(word_, nullptr)->leave(outstanding).first;
        forget_woken();
    }
    attend();
    // What is destroyed here may be the user's, and come back to this set: it is empty by now.
    for (set_member* m : lists)
        while (m != nullptr) {
            cell* const task = m->task;
            m = m->next_ended;
            task->leave_set();
        }
}

void task_set::take_ended() noexcept {
    const ended_list taken = word_->take();
    if (taken.count == 0)
        return;
    (ended_ != nullptr ? last_ended_->next_ended : ended_) = taken.first;
    last_ended_ = taken.last;
    outstanding_ -= taken.count;
}

// --- who waits ---

group_wait task_set::wait(leaf& l) noexcept {
    forget_woken();
    if (joiner_ != nullptr)
        return group_wait::occupied;
    if (in_word_ == nullptr) {
        if (!word_->wait(l))
            return group_wait::ended;
        in_word_ = &l;
    } // else who stands there is woken by the next end, and sees to this one
    joiner_ = &l;
    return group_wait::waiting;
}

cancel_answer task_set::withdraw(leaf& l) noexcept {
    forget_woken();
    if (joiner_ != &l)
        return cancel_answer::coming;
    joiner_ = nullptr;
    if (!leave_word(l))
        return cancel_answer::coming;
    if (first_place_ != nullptr)
        attend();
    return cancel_answer::quiet;
}

bool task_set::is_full() noexcept {
    if (!has_place())
        attend(); // some may have ended
    return !has_place();
}

bool task_set::take_place() noexcept {
    if (is_full() || first_place_ != nullptr)
        return false;
    ++places_taken_;
    return true;
}

void task_set::give_place_back() noexcept {
    --places_taken_;
    attend();
}

void task_set::enter(place_waiter& w) noexcept {
    place_waiter** link = &first_place_;
    while (*link != nullptr) // they are branches of one task, and few
        link = &(*link)->next;
    *link = &w;
    attend();
}

void task_set::look_again(place_waiter& w) noexcept {
    forget_woken();
    w.is_woken = false;
    attend();
}

cancel_answer task_set::withdraw(place_waiter& w) noexcept {
    forget_woken();
    if (w.has_place)
        return cancel_answer::coming;
    unlink(w);
    if (w.is_woken || !leave_word(*w.waiting))
        return cancel_answer::coming;
    attend();
    return cancel_answer::quiet;
}

void task_set::attend() noexcept {
    for (;;) {
        forget_woken();
        if (outstanding_ > 0)
            take_ended();
        if (joiner_ != nullptr && (ended_ != nullptr || size() == 0)) {
            leaf& l = *std::exchange(joiner_, nullptr);
            if (leave_word(l))
                wake(l);
        }
        while (first_place_ != nullptr && has_place()) {
            place_waiter& w = *first_place_;
            unlink(w);
            ++places_taken_;
            w.has_place = true;
            if (!w.is_woken && leave_word(*w.waiting))
                wake(*w.waiting);
        }
        leaf* const next = joiner_ != nullptr                                   ? joiner_
                           : first_place_ != nullptr && !first_place_->is_woken ? first_place_->waiting
                                                                                : nullptr;
        if (next == nullptr || in_word_ != nullptr || outstanding_ == 0)
            return;
        if (word_->wait(*next)) {
            in_word_ = next;
            return;
        }
    }
}

/// Forgets whose leaf a member has woken.
void task_set::forget_woken() noexcept {
    if (in_word_ == nullptr || (word_ != nullptr && word_->holds(*in_word_)))
        return;
    const leaf* const woken = std::exchange(in_word_, nullptr);
    if (woken == joiner_) {
        joiner_ = nullptr;
        return;
    }
    for (place_waiter* w = first_place_; w != nullptr; w = w->next)
        if (w->waiting == woken)
            w->is_woken = true;
}

/// Takes the leaf off the word if it stands there. False: a member is about to wake it.
bool task_set::leave_word(leaf& l) noexcept {
    if (in_word_ != &l)
        return true;
    in_word_ = nullptr;
    return word_->withdraw(l) == cancel_answer::quiet;
}

void task_set::unlink(place_waiter& w) noexcept {
    place_waiter** link = &first_place_;
    while (*link != &w)
        link = &(*link)->next;
    *link = w.next;
}

} // namespace magpie::detail
