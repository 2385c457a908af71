#pragma once

// Everything of magpie::core: tasks, the protocol below them, waiting for time, joining.

#include <magpie/core/as_result.hpp>
#include <magpie/core/config.hpp>
#include <magpie/core/declared_task.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/for_each_concurrent.hpp>
#include <magpie/core/foreign.hpp>
#include <magpie/core/fork_join.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/log.hpp>
#include <magpie/core/may_lose.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/parallel_for.hpp>
#include <magpie/core/parallel_reduce.hpp>
#include <magpie/core/pinned.hpp>
#include <magpie/core/scope.hpp>
#include <magpie/core/scope_error.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/select_case.hpp>
#include <magpie/core/shield.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/core/supervise.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/task_cancelled.hpp>
#include <magpie/core/task_scope.hpp>
#include <magpie/core/this_task.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/timer.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/unhandled.hpp>
#include <magpie/core/with.hpp>
#include <magpie/core/yield.hpp>
