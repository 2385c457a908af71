#include <magpie/core/detail/context.hpp>

#include <magpie/core/this_task.hpp>

namespace magpie {

namespace detail {

std::shared_ptr<const inherited_values> inherited_values::add(const inherited_values* outer,
                                                              const void* key,
                                                              std::shared_ptr<const void> value) {
    const auto made = std::make_shared<inherited_values>();
    made->entries_.reserve(outer != nullptr ? outer->entries_.size() + 1 : 1);
    made->entries_.emplace_back(key, std::move(value));
    if (outer != nullptr)
        for (const entry& e : outer->entries_)
            if (e.first != key)
                made->entries_.push_back(e);
    return made;
}

const void* inherited_values::find(const void* key) const noexcept {
    for (const entry& e : entries_)
        if (e.first == key)
            return e.second.get();
    return nullptr;
}

const void* task_context::find_local(const void* key) const noexcept {
    for (const bound_local* b = locals; b != nullptr; b = b->outer)
        if (b->key == key)
            return b->value;
    return nullptr;
}

task_context derive_context() noexcept {
    const task_context* const c = current_context();
    return c != nullptr ? *c : task_context();
}

const task_context& dated_context::enter(task_context::time_point deadline) noexcept {
    context_ = derive_context();
    context_.deadline = deadline;
    return context_;
}

task_context::time_point current_deadline() noexcept {
    const task_context* const c = current_context();
    return c != nullptr ? c->deadline : task_context::no_deadline;
}

} // namespace detail

namespace this_task {

std::optional<std::chrono::steady_clock::time_point> deadline() noexcept {
    const auto nearest = detail::current_deadline();
    return nearest != detail::task_context::no_deadline ? std::optional(nearest) : std::nullopt;
}

} // namespace this_task
} // namespace magpie
