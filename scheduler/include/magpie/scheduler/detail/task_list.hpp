#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/promise.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/task.hpp>

#include <cstddef>
#include <utility>

namespace magpie::detail {

/// What a task carries that belongs to a group.
struct task_list_node {
    cell* task = nullptr;
    task_list_node* previous = nullptr;
    task_list_node* next = nullptr;
};

/// What came of an attempt to wait for the next end in a group.
enum class group_wait : unsigned char { waiting, ended, occupied };

/// Makes a task's cell, `Cell(executor, root, args...)`, which nobody has adopted yet.
template <class Cell, class T, class... Args>
Cell* make_cell(executor& e, task<T>&& t, Args&&... args) {
    const auto root = task_access::release(std::move(t));
    try {
        return new Cell(e, root, std::forward<Args>(args)...);
    } catch (...) {
        root.destroy();
        throw;
    }
}

/// The tasks of a group in order of their spawns. One thread at a time. O(1), but `abort_all`.
class task_list {
public:
    task_list() noexcept = default;
    task_list(task_list&& other) noexcept
        : first_(std::exchange(other.first_, nullptr)), last_(std::exchange(other.last_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    task_list& operator=(task_list&& other) noexcept {
        task_list old(std::move(other));
        std::swap(first_, old.first_);
        std::swap(last_, old.last_);
        std::swap(size_, old.size_);
        return *this;
    }

    std::size_t size() const noexcept { return size_; }
    task_list_node* first() const noexcept { return first_; }
    task_list_node* last() const noexcept { return last_; }

    void push_back(task_list_node& n) noexcept { insert(nullptr, n); }
    /// Puts a task in front of another one, null: at the end.
    void insert(task_list_node* before, task_list_node& n) noexcept {
        ++size_;
        n.next = before;
        n.previous = std::exchange(before != nullptr ? before->previous : last_, &n);
        (n.previous != nullptr ? n.previous->next : first_) = &n;
    }
    void remove(task_list_node& n) noexcept {
        --size_;
        (n.previous != nullptr ? n.previous->next : first_) = n.next;
        (n.next != nullptr ? n.next->previous : last_) = n.previous;
    }
    /// To abort one that has ended does nothing: the group holds its cell.
    void abort_all() const noexcept {
        for (task_list_node* n = first_; n != nullptr; n = n->next)
            n->task->abort();
    }

private:
    task_list_node* first_ = nullptr;
    task_list_node* last_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace magpie::detail
