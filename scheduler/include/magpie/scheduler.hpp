#pragma once

// Everything of magpie::scheduler.

#include <magpie/scheduler/blocking.hpp>
#include <magpie/scheduler/builder.hpp>
#include <magpie/scheduler/clock_control.hpp>
#include <magpie/scheduler/foreign_ptr.hpp>
#include <magpie/scheduler/interval.hpp>
#include <magpie/scheduler/join_map.hpp>
#include <magpie/scheduler/join_queue.hpp>
#include <magpie/scheduler/join_set.hpp>
#include <magpie/scheduler/local_pool.hpp>
#include <magpie/scheduler/metrics.hpp>
#include <magpie/scheduler/runtime.hpp>
#include <magpie/scheduler/shard.hpp>
#include <magpie/scheduler/sharded.hpp>
#include <magpie/scheduler/spawn_on_worker.hpp>
#include <magpie/scheduler/task_tracker.hpp>
