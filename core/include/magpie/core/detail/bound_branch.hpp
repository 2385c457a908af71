#pragma once

#include <magpie/core/detail/composite.hpp>
#include <magpie/core/detail/context.hpp>

#include <utility>

namespace magpie::detail {

/// A branch with a context of its own. Where its code is resumed, the turn sees to that; where it starts
/// or is destroyed, `inside` does.
class bound_branch : public owned_branch {
public:
    bound_branch() noexcept = default;
    bound_branch(bound_branch&&) noexcept = default;

    /// Before it starts; the context outlives the branch.
    void bind(const task_context& c) noexcept { context_ = &c; }

protected:
    using inside = branch::inside;

    ~bound_branch() = default;
};

template <class T>
using bound_task_branch = task_branch<T, task<T>::safety, bound_branch>;

/// The branch for an awaitable below which something is bound.
template <class A>
using bound_branch_for = decltype(make_branch<bound_branch>(std::declval<A>()));

} // namespace magpie::detail
