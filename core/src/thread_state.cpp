#include <magpie/core/detail/thread_state.hpp>

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/inherited.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/this_task.hpp>
#include <magpie/core/timer.hpp>

#include <string>

namespace magpie {

namespace detail {

#if !defined(MAGPIE_MODEL)
thread_local constinit thread_state state_of_thread;
#endif

std::uint32_t random_below(std::uint32_t n) noexcept {
    std::uint32_t& x = this_thread().random; // xorshift32
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return static_cast<std::uint32_t>((std::uint64_t{x} * n) >> 32);
}

namespace {

executor* executor_here() noexcept {
    const thread_state& here = this_thread();
    return here.turn != nullptr ? &here.turn->where_it_runs() : here.executor;
}

// The only strands that take turns are cells; a waiting thread's strand never does.
const cell* task_here() noexcept {
    const thread_state& here = this_thread();
    return here.result_of != nullptr ? here.result_of : static_cast<const cell*>(here.turn);
}

} // namespace

const task_context* current_context() noexcept {
    const thread_state& here = this_thread();
    if (here.result_of != nullptr)
        return here.result_of->context();
    return here.turn != nullptr ? here.running->context() : nullptr;
}

executor& current_executor(std::source_location where) {
    if (executor* const e = executor_here())
        return *e;
    if (has_inherited())
        throw_usage_error(inherited_runtime);
    throw std::logic_error(std::string(where.file_name()) + ":" + std::to_string(where.line()) +
                           ": spawn outside of a runtime: call it in a task, enter a runtime "
                           "first (auto in = rt.enter()), or use rt.spawn");
}

} // namespace detail

clock::time_point clock::now() noexcept {
    executor* const e = detail::executor_here();
    timer_service* const timers = e != nullptr ? e->timers() : nullptr;
    return timers != nullptr ? timers->now() : std::chrono::steady_clock::now();
}

namespace this_task {

std::optional<std::uint64_t> id() noexcept {
    const detail::cell* const c = detail::task_here();
    return c != nullptr ? std::optional(c->id) : std::nullopt;
}

std::string_view name() noexcept {
    const detail::cell* const c = detail::task_here();
    return c != nullptr ? c->name() : std::string_view();
}

std::optional<std::uint32_t> budget() noexcept {
    const detail::cell* const c = detail::task_here();
    return c != nullptr ? std::optional<std::uint32_t>(c->budget()) : std::nullopt;
}

} // namespace this_task
} // namespace magpie
