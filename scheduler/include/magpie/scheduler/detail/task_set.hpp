#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/promise.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/core/task.hpp>
#include <magpie/scheduler/detail/set_word.hpp>
#include <magpie/scheduler/detail/task_list.hpp>

#include <coroutine>
#include <cstddef>
#include <limits>
#include <source_location>
#include <string>
#include <utility>

namespace magpie::detail {

/// A branch that waits until a set has a place for one more task.
struct place_waiter {
    leaf* waiting = nullptr;
    place_waiter* next = nullptr;
    bool is_woken = false;  // a member has woken it: it will look again
    bool has_place = false; // it was handed one, and owes it to the set
};

/// A set of tasks, whatever they give. One thread at a time.
//
// The word takes one leaf, but of the set's branches one may wait for an end, and others for places.
//
// I1. If anybody waits, a leaf of theirs stands in the word; or one was woken from there, and calls
//     attend() when it surfaces or is dropped; or no task is outstanding, and who has a place, or was
//     handed one, calls it when it spawns or gives that back.
// I2. A joiner that was woken from the word is forgotten: forget_woken() comes first. Who was woken there
//     and waits for a place keeps its turn, and is handed a place without another wake.
class task_set {
public:
    using member = set_member;

    task_set(const task_set&) = delete;
    task_set& operator=(const task_set&) = delete;

    std::size_t size() const noexcept { return members_.size(); }

    set_member* pop() noexcept; ///< the next that has ended; null if none
    void forget(set_member& m) noexcept { m.task->leave_set(); } ///< ... or to be lost
    void put_back(set_member& m) noexcept; ///< what pop() gave, to be the next again

    group_wait wait(leaf& l) noexcept;
    cancel_answer withdraw(leaf& l) noexcept;

    bool is_full() noexcept;
    /// Takes a place, if there is one and nobody waits for it.
    bool take_place() noexcept;
    void use_place() noexcept { --places_taken_; } ///< a task was spawned into it
    void give_place_back() noexcept;
    void enter(place_waiter& w) noexcept;      ///< at the end of the queue
    void look_again(place_waiter& w) noexcept; ///< was woken, and was not handed a place
    cancel_answer withdraw(place_waiter& w) noexcept;

    /// Sees to who waits, after something has changed.
    void attend() noexcept;

    void abort_all() const noexcept { members_.abort_all(); }
    void detach_all() noexcept;

protected:
    task_set() noexcept = default;
    explicit task_set(std::size_t limit); ///< @throws std::logic_error for a limit of 0
    task_set(task_set&& other) noexcept { swap(other); }
    ~task_set();

    void swap(task_set& other) noexcept;
    set_word& word(); ///< makes one if there is none. @throws std::bad_alloc
    void add(set_member& m) noexcept;

private:
    bool has_place() const noexcept { return outstanding_ + places_taken_ < limit_; }
    void take_ended() noexcept;
    void forget_woken() noexcept;
    bool leave_word(leaf& l) noexcept;
    void unlink(place_waiter& w) noexcept;

    set_word* word_ = nullptr;
    task_list members_;
    set_member* ended_ = nullptr; // of them those that were taken off the word, oldest first
    set_member* last_ended_ = nullptr;
    std::size_t outstanding_ = 0;  // of them those that were not
    std::size_t places_taken_ = 0; // by who has not spawned yet
    std::size_t limit_ = std::numeric_limits<std::size_t>::max();

    leaf* joiner_ = nullptr;              // waits for an end
    place_waiter* first_place_ = nullptr; // wait for places, in order
    leaf* in_word_ = nullptr;             // of these leaves the one that was put there
};

[[noreturn]] void throw_set_is_full();

/// The cell of a task in a set.
template <class T>
class set_cell : public result_cell<T>, public set_member {
public:
    template <class... Name>
    set_cell(executor& e, std::coroutine_handle<promise<T>> root, set_word& word,
             std::source_location where, Name&&... name)
        : result_cell<T>(e, where, std::forward<Name>(name)...), word_(&word) {
        task = this;
        this->hold(root.promise());
        this->belong_to_set();
    }

private:
    void tell_set() noexcept final {
        if (!word_->arrive(*this))
            this->leave_set();
    }

    set_word* word_;
};

/// A set of tasks that give a `T`.
template <class T>
class set_of : public task_set {
public:
    using task_set::swap;

    set_of() noexcept = default;
    explicit set_of(std::size_t limit) : task_set(limit) {}
    set_of(set_of&&) noexcept = default;

    bool is_drained() const noexcept { return size() == 0; }

    template <class... Name>
    abort_handle start(task<T>&& t, std::source_location where, Name&&... name) {
        executor& e = current_executor(where);
        auto* const c = make_cell<set_cell<T>>(e, std::move(t), word(), where,
                                               std::forward<Name>(name)...);
        abort_handle handle(*c);
        add(*c);
        e.adopt(*c);
        return handle;
    }
};

} // namespace magpie::detail
