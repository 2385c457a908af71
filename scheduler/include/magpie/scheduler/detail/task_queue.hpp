#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/promise.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/core/task.hpp>
#include <magpie/scheduler/detail/task_list.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <utility>

namespace magpie::detail {

/// What a task carries that belongs to a queue.
struct queue_member : task_list_node {
    std::uint64_t number = 0; ///< of its spawn
};

/// Tasks that are joined in the order of their spawns, whatever they give. One thread at a time.
//
// The queue has the handle's side of each cell. Who waits has its leaf in the join word of the head.
class task_queue {
public:
    using member = queue_member;

    task_queue(const task_queue&) = delete;
    task_queue& operator=(const task_queue&) = delete;

    std::size_t size() const noexcept { return tasks_.size(); }
    bool is_drained() const noexcept { return size() == 0; }

    queue_member* pop() noexcept; ///< the oldest if that has ended; null if not
    void forget(queue_member& m) noexcept { m.task->leave_set(); } ///< ... or to be lost
    void put_back(queue_member& m) noexcept; ///< what pop() gave, to its old place

    group_wait wait(leaf& l) noexcept; ///< the queue is not empty
    cancel_answer withdraw(leaf& l) noexcept;
    void attend() const noexcept {} ///< there is nobody else to see to

    void abort_all() const noexcept { tasks_.abort_all(); }
    void detach_all() noexcept;

protected:
    task_queue() noexcept = default;
    task_queue(task_queue&& other) noexcept { swap(other); }
    ~task_queue();

    void swap(task_queue& other) noexcept;
    void add(queue_member& m) noexcept;

private:
    void forget_woken() noexcept;

    task_list tasks_;
    std::uint64_t spawned_ = 0;
    leaf* joiner_ = nullptr;
    cell* awaited_ = nullptr; // where the joiner's leaf was put
};

/// The cell of a task in a queue.
template <class T>
class queue_cell final : public result_cell<T>, public queue_member {
public:
    template <class... Name>
    queue_cell(executor& e, std::coroutine_handle<promise<T>> root, std::source_location where,
               Name&&... name)
        : result_cell<T>(e, where, std::forward<Name>(name)...) {
        task = this;
        this->hold(root.promise());
    }
};

/// A queue of tasks that give a `T`.
template <class T>
class queue_of : public task_queue {
public:
    using task_queue::swap;

    queue_of() noexcept = default;
    queue_of(queue_of&&) noexcept = default;

    template <class... Name>
    abort_handle start(task<T>&& t, std::source_location where, Name&&... name) {
        executor& e = current_executor(where);
        auto* const c = make_cell<queue_cell<T>>(e, std::move(t), where, std::forward<Name>(name)...);
        abort_handle handle(*c);
        add(*c);
        e.adopt(*c);
        return handle;
    }
};

} // namespace magpie::detail
