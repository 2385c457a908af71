#pragma once

#include <magpie/core/scope_error.hpp>

#include <exception>
#include <vector>

namespace magpie {

/// What else had failed beside an exception.
///
/// A `fail_fast` scope, a `join`, and whatever else waits for several things rethrow one failure, whatever
/// type that is of. The others, of children, branches, teardowns, and of destructors on the way, are
/// attached to it, in their order: this gives them. They are reported as unhandled in any case.
///
/// They go along with the exception: out of the scopes and joins around that one, to a task that joins
/// the failed one, and to a thread that waits for it. Each task, and each thread outside of tasks,
/// remembers what is attached to the last exception of this kind that has reached it; so it is the
/// handler of the exception that asks.
///
/// @param thrown  by default the exception that is being handled
/// @return empty if there were no others, if `thrown` has not reached the calling task, or if another
///         exception with others has reached it since; also where memory has run out
/// @par Thread safety
/// From any thread.
/// @par Example
/// @code
/// try {
///     co_await magpie::scope(load_all);
/// } catch (const db_error& e) {
///     log(e.what());
///     for (const magpie::task_failure& other : magpie::attached_failures())
///         log(magpie::describe(other.error));
/// }
/// @endcode
std::vector<task_failure> attached_failures(
    const std::exception_ptr& thrown = std::current_exception());

} // namespace magpie
