#pragma once

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

// What a task carries: the values of task-locals and the nearest deadline. A branch points at what is
// in force in it (null: what the task was spawned with), so nothing is looked for until it is asked for.

namespace magpie::detail {

/// A value that a task-local has below one `with`: it stands in a frame.
struct bound_local {
    const bound_local* outer = nullptr; ///< the next one that is in force
    const void* key = nullptr;
    const void* value = nullptr; ///< null: it was taken back, and hides the outer ones
};

/// Values that spawned tasks inherit. Immutable: all who inherit them share one object.
class inherited_values {
public:
    /// What is in force below `with` a value: `outer` (null: nothing), and that in place of what `outer`
    /// has under the key. What is hidden is let go of: tasks that spawn each other for ever, each below
    /// a `with` of its own, pile up nothing.
    static std::shared_ptr<const inherited_values> add(const inherited_values* outer, const void* key,
                                                       std::shared_ptr<const void> value);

    /// The key's value, null without one.
    const void* find(const void* key) const noexcept;

private:
    using entry = std::pair<const void*, std::shared_ptr<const void>>;
    std::vector<entry> entries_; // few: searched from the front
};

/// What is in force in a branch. Immutable while anything runs in it: forked children read it too.
struct task_context {
    using time_point = std::chrono::steady_clock::time_point;
    static constexpr time_point no_deadline = time_point::max();

    const bound_local* locals = nullptr;
    std::shared_ptr<const inherited_values> inherited;
    time_point deadline = no_deadline; ///< the nearest

    const void* find_local(const void* key) const noexcept;
};

/// What is in force where the caller runs; null: nothing, or there is no task. It stands until the
/// branch that runs ends. What a structured child is to see of its parent is taken in the parent by
/// this, and given by its strand's `context()` (a fork), or in part by `cell::set_deadline` (a scope).
const task_context* current_context() noexcept;

/// A copy of it to put something else into, for a branch below.
task_context derive_context() noexcept;

/// A context that differs from the one around it in its deadline. A base of the operation below which it
/// is in force, to outlive the branches.
class dated_context {
public:
    const task_context& enter(task_context::time_point deadline) noexcept;

private:
    task_context context_;
};

/// The nearest deadline, `no_deadline` without one.
task_context::time_point current_deadline() noexcept;

} // namespace magpie::detail
