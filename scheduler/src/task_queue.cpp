#include <magpie/scheduler/detail/task_queue.hpp>

#include <magpie/core/error.hpp>

#include <utility>

namespace magpie::detail {

task_queue::~task_queue() {
    forget_woken();
    if (joiner_ != nullptr)
        fatal("a join_queue is destroyed while a branch waits for it: end that wait first, or keep the "
              "queue outside of the branches",
              __FILE__, __LINE__);
    abort_all();
    detach_all();
}

void task_queue::swap(task_queue& other) noexcept {
    std::swap(tasks_, other.tasks_);
    std::swap(spawned_, other.spawned_);
}

void task_queue::add(queue_member& m) noexcept {
    m.number = ++spawned_;
    tasks_.push_back(m);
}

queue_member* task_queue::pop() noexcept {
    auto* const m = static_cast<queue_member*>(tasks_.first());
    if (m == nullptr || m->task->joined() != cell::join_state::done)
        return nullptr;
    if (m->task == awaited_) { // it has woken who waited
        joiner_ = nullptr;
        awaited_ = nullptr;
    }
    tasks_.remove(*m);
    return m;
}

void task_queue::put_back(queue_member& m) noexcept {
    task_list_node* next = tasks_.first(); // mostly that one
    while (next != nullptr && static_cast<queue_member*>(next)->number < m.number)
        next = next->next;
    tasks_.insert(next, m);
    forget_woken();
    if (joiner_ != nullptr && tasks_.first() == &m &&
        awaited_->withdraw(*joiner_) == cancel_answer::quiet) {
        awaited_ = nullptr;
        wake(*std::exchange(joiner_, nullptr)); // what it waits for is not the oldest any more
    }
}

group_wait task_queue::wait(leaf& l) noexcept {
    forget_woken();
    if (joiner_ != nullptr)
        return group_wait::occupied;
    cell& head = *tasks_.first()->task;
    if (head.wait(l) != cell::join_state::pending)
        return group_wait::ended;
    joiner_ = &l;
    awaited_ = &head;
    return group_wait::waiting;
}

cancel_answer task_queue::withdraw(leaf& l) noexcept {
    forget_woken();
    if (joiner_ != &l)
        return cancel_answer::coming;
    joiner_ = nullptr;
    return std::exchange(awaited_, nullptr)->withdraw(l);
}

void task_queue::detach_all() noexcept {
    forget_woken();
    if (joiner_ != nullptr) {
        leaf& l = *std::exchange(joiner_, nullptr);
        if (std::exchange(awaited_, nullptr)->withdraw(l) == cancel_answer::quiet)
            wake(l);
    }
    // What is destroyed here may be the user's, and come back to this queue: it is empty by now.
    task_list old = std::move(tasks_);
    while (task_list_node* const n = old.first()) {
        old.remove(*n);
        n->task->detach();
    }
}

/// Forgets who was woken by the end of what it waited for.
void task_queue::forget_woken() noexcept {
    if (awaited_ == nullptr || awaited_->joined() == cell::join_state::occupied)
        return;
    joiner_ = nullptr;
    awaited_ = nullptr;
}

} // namespace magpie::detail
