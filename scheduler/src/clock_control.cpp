#include <magpie/scheduler/clock_control.hpp>

#include "runtime_core.hpp"

#include <magpie/core/error.hpp>
#include <magpie/core/spawn.hpp>

namespace magpie {

namespace {

constexpr auto not_paused =
    "advance needs a paused clock: pause_clock(), or builder().paused_clock(true)";

detail::runtime_core* core_of(executor& e) noexcept { return dynamic_cast<detail::runtime_core*>(&e); }

detail::runtime_core& core_here() {
    detail::runtime_core* const core = core_of(
        detail::current_executor(std::source_location::current()));
    if (core == nullptr)
        detail::throw_usage_error(
            "this task's executor is no magpie::runtime: it has no clock to pause");
    return *core;
}

} // namespace

void pause_clock() { core_here().pause_clock(); }
void resume_clock() { core_here().resume_clock(); }

bool advance_operation::try_complete() noexcept {
    detail::runtime_core* const core = core_of(owner().where_it_runs());
    if (core == nullptr || !core->time.paused())
        misuse_ = not_paused;
    return misuse_ != nullptr;
}

bool advance_operation::publish() noexcept {
    detail::runtime_core& core = *core_of(owner().where_it_runs());
    if (core.begin_advance(*this, duration_))
        return true;
    misuse_ = core.time.paused() ? "somebody else advances this clock already: one at a time"
                                 : not_paused; // any more
    return false;
}

void advance_operation::await_resume() {
    if (misuse_ != nullptr)
        detail::throw_usage_error(misuse_);
}

cancel_answer advance_operation::cancel() noexcept {
    return core_of(owner().where_it_runs())->withdraw_advance(*this);
}

} // namespace magpie
