#include <magpie/scheduler/detail/set_word.hpp>

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

set_word::wait_state set_word::wait(leaf& l) noexcept {
    std::uintptr_t seen = 0;
    // Success: (L). Failure: relaxed, take() reads what is there.
    if (word_.compare_exchange_strong(seen, of(l), std::memory_order_release,
                                      std::memory_order_relaxed))
        return wait_state::waiting;
    return (seen & waits) != 0 ? wait_state::occupied : wait_state::ended;
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

join_set_base::~join_set_base() {
    if (word_ != nullptr && word_->is_waited_for())
        fatal("a join_set is destroyed while a branch waits in its join_next(): end that wait first, "
              "or keep the set outside of the branches",
              __FILE__, __LINE__);
    abort_all();
    detach_all();
    delete word_;
}

void join_set_base::swap(join_set_base& other) noexcept {
    std::swap(word_, other.word_);
    std::swap(members_, other.members_);
    std::swap(ended_, other.ended_);
    std::swap(size_, other.size_);
    std::swap(outstanding_, other.outstanding_);
}

set_word& join_set_base::word() {
    if (word_ == nullptr)
        word_ = new set_word;
    return *word_;
}

void join_set_base::add(set_member& m) noexcept {
    link(m);
    ++outstanding_;
}

set_member* join_set_base::pop() noexcept {
    if (ended_ == nullptr && outstanding_ > 0)
        take_ended();
    set_member* const m = ended_;
    if (m != nullptr) {
        ended_ = m->next_ended;
        unlink(*m);
    }
    return m;
}

void join_set_base::put_back(set_member& m) noexcept {
    m.next_ended = std::exchange(ended_, &m);
    link(m);
}

void join_set_base::abort_all() const noexcept {
    // The set holds their cells; to abort one that has ended does nothing.
    for (set_member* m = members_; m != nullptr; m = m->next)
        m->task->abort();
}

void join_set_base::detach_all() noexcept {
    set_member* lists[] = {std::exchange(ended_, nullptr), nullptr};
    members_ = nullptr;
    size_ = 0;
    if (const std::size_t outstanding = std::exchange(outstanding_, 0); outstanding > 0)
        lists[1] = std::exchange(word_, nullptr)->leave(outstanding).first;
    // What is destroyed here may be the user's, and come back to this set: it is empty by now.
    for (set_member* m : lists)
        while (m != nullptr) {
            cell* const task = m->task;
            m = m->next_ended;
            task->leave_set();
        }
}

void join_set_base::link(set_member& m) noexcept {
    ++size_;
    m.previous = nullptr;
    m.next = std::exchange(members_, &m);
    if (m.next != nullptr)
        m.next->previous = &m;
}

void join_set_base::unlink(set_member& m) noexcept {
    --size_;
    (m.previous != nullptr ? m.previous->next : members_) = m.next;
    if (m.next != nullptr)
        m.next->previous = m.previous;
}

void join_set_base::take_ended() noexcept {
    const ended_list taken = word_->take();
    ended_ = taken.first;
    outstanding_ -= taken.count;
}

} // namespace magpie::detail
