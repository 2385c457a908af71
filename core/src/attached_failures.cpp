#include <magpie/core/attached_failures.hpp>

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/composite.hpp>
#include <magpie/core/detail/immortal.hpp>
#include <magpie/core/detail/thread_state.hpp>

#include <iterator>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>

namespace magpie {
namespace detail {
namespace {

/// What is attached to one exception.
struct attachment {
    std::exception_ptr thrown; // keeps it: another one at its address is another one
    std::vector<task_failure> others;
};

// Beside the tasks, because hardly any has one: it is marked by a bit in its word of references.
struct attachment_table {
    mutex lock;
    std::unordered_map<const cell*, attachment> of;
};

// Never destroyed, as the handles that refer to tasks may stand in static objects.
attachment_table& table() noexcept { return immortal<attachment_table>(); }

/// Of a thread outside of tasks.
attachment& of_this_thread() noexcept {
    static thread_local attachment mine;
    return mine;
}

cell* task_here() noexcept { return static_cast<cell*>(this_thread().turn); }

/// What a task has, if it is attached to `thrown`, or to whatever if that is null; nothing else.
attachment take_attachment(const cell& c, const std::exception_ptr& thrown) noexcept {
    attachment_table& all = table();
    const lock_guard guard(all.lock);
    const auto found = all.of.find(&c);
    if (found == all.of.end() || (thrown != nullptr && found->second.thrown != thrown))
        return {};
    attachment taken = std::move(found->second);
    all.of.erase(found);
    return taken;
}

} // namespace

void cell::attach(const std::exception_ptr& thrown, std::vector<task_failure>&& others) {
    attachment replaced{thrown,
                        std::move(others)}; // what was there is destroyed here, not under the lock
    {
        attachment_table& all = table();
        const lock_guard guard(all.lock);
        std::swap(all.of[this], replaced);
    }
    // Relaxed: it is read on this task's turns, and by who has seen its end.
    references_.fetch_or(attached_bit, std::memory_order_relaxed);
}

void cell::attach_beside(const std::exception_ptr& thrown, task_failure other) {
    std::vector<task_failure> all = take_attached(thrown);
    std::vector<task_failure> of_other = take_attached(other.error);
    all.push_back(std::move(other));
    all.insert(all.end(), std::make_move_iterator(of_other.begin()),
               std::make_move_iterator(of_other.end()));
    attach(thrown, std::move(all));
}

std::vector<task_failure> cell::take_attached(const std::exception_ptr& thrown) noexcept {
    if (!has_attached() || thrown == nullptr)
        return {};
    return take_attachment(*this, thrown).others;
}

void cell::pass_attached() noexcept {
    const std::exception_ptr thrown = error();
    std::vector<task_failure> others = take_attached(thrown);
    if (others.empty())
        return;
    cell* const receiver = task_here();
    try {
        if (receiver != nullptr)
            receiver->attach(thrown, std::move(others));
        else
            of_this_thread() = {thrown, std::move(others)};
    } catch (const std::bad_alloc&) { // they were reported
    }
}

void cell::pass_attached(cell& whole) noexcept {
    if (!has_attached()) [[likely]]
        return;
    attachment mine = take_attachment(*this, nullptr);
    try {
        whole.attach(mine.thrown, std::move(mine.others));
    } catch (const std::bad_alloc&) { // they were reported
    }
}

void cell::forget_attached() noexcept { static_cast<void>(take_attachment(*this, nullptr)); }

void report_beside(strand& s, const std::exception_ptr& thrown, std::exception_ptr error) noexcept {
    cell& c = static_cast<cell&>(s);
    try {
        c.attach_beside(thrown, {error, c.id, std::string(c.name()), c.where()});
    } catch (const std::bad_alloc&) { // it is reported
    }
    report_lost(s, std::move(error));
}

} // namespace detail

std::vector<task_failure> attached_failures(const std::exception_ptr& thrown) {
    if (thrown == nullptr)
        return {};
    const detail::cell* const c = detail::task_here();
    if (c == nullptr) {
        const detail::attachment& mine = detail::of_this_thread();
        return mine.thrown == thrown ? mine.others : std::vector<task_failure>();
    }
    detail::attachment_table& all = detail::table();
    const detail::lock_guard guard(all.lock);
    const auto found = all.of.find(c);
    return found != all.of.end() && found->second.thrown == thrown ? found->second.others
                                                                   : std::vector<task_failure>();
}

} // namespace magpie
