#include <magpie/scheduler/clock_control.hpp>

#include "runtime_core.hpp"

#include <magpie/core/error.hpp>
#include <magpie/core/spawn.hpp>

namespace magpie {

namespace {

constexpr auto not_paused =
    "advance needs a paused clock: pause_clock(), or builder().paused_clock(true)";

detail::runtime_group* group_of(executor& e) noexcept {
    detail::runtime_core* const core = detail::runtime_core::of(e);
    return core != nullptr ? &core->group : nullptr;
}

detail::runtime_group& group_here() {
    detail::runtime_group* const group = group_of(
        detail::current_executor(std::source_location::current()));
    if (group == nullptr)
        detail::throw_usage_error(
            "this task's executor is no magpie::runtime: it has no clock to pause");
    return *group;
}

} // namespace

void pause_clock() { group_here().pause_clock(); }
void resume_clock() { group_here().resume_clock(); }

bool advance_operation::try_complete() noexcept {
    detail::runtime_group* const group = group_of(owner().where_it_runs());
    if (group == nullptr || !group->time.paused())
        misuse_ = not_paused;
    return misuse_ != nullptr;
}

bool advance_operation::publish() noexcept {
    detail::runtime_group& group = *group_of(owner().where_it_runs());
    if (group.begin_advance(*this, duration_))
        return true;
    misuse_ = group.time.paused() ? "somebody else advances this clock already: one at a time"
                                  : not_paused; // any more
    return false;
}

void advance_operation::await_resume() {
    if (misuse_ != nullptr)
        detail::throw_usage_error(misuse_);
}

cancel_answer advance_operation::cancel() noexcept {
    return group_of(owner().where_it_runs())->withdraw_advance(*this);
}

} // namespace magpie
