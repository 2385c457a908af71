#include <magpie/scheduler/blocking.hpp>

#include "runtime_core.hpp"

#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/error.hpp>

#include <string>
#include <utility>

namespace magpie::detail {

std::uint64_t next_blocking_id(executor& e) noexcept {
    runtime_core* const core = runtime_core::of(e); // another executor refuses the job itself
    return core != nullptr ? core->group.blocking_id() : 0;
}

std::string describe_blocking(const cell& c) {
    return "blocking call " + std::to_string(c.id) + ", spawned at " + c.where().file_name() + ":" +
           std::to_string(c.where().line());
}

blocking_turn::blocking_turn(cell& c) noexcept
    : outer_turn_(std::exchange(this_thread().turn, &c)),
      outer_running_(std::exchange(this_thread().running, &c)),
      outer_may_block_(std::exchange(this_thread().may_block, &c)) {}

blocking_turn::~blocking_turn() {
    this_thread().turn = outer_turn_;
    this_thread().running = outer_running_;
    this_thread().may_block = outer_may_block_;
}

blocking_section::blocking_section() : outer_may_block_(this_thread().may_block) {
    thread_state& here = this_thread();
    if (worker* const w = worker::current()) {
        runtime_group& group = w->core().group;
        if (!group.has_threads())
            throw_usage_error("block_in_place on a current_thread runtime would stop all its tasks: "
                              "use spawn_blocking");
        if (group.is_pinned())
            throw_usage_error("block_in_place on a thread_per_core runtime would stop all tasks of its "
                              "shard, which no other thread may run: use spawn_blocking");
        if (here.turn != nullptr && here.turn->where_it_runs().is_pinned())
            throw_usage_error("block_in_place in a task that is pinned to its worker would take the "
                              "worker away from it: use spawn_blocking");
        blocking_pool& pool = group.pool;
        pool.begin_section(); // its end is where the turn returns: worker::run
        try {
            pool.launch(*w);
        } catch (...) {
            pool.end_section();
            throw;
        }
        here.worker = nullptr;
        here.forks = nullptr;
        here.home = nullptr; // the tasks that are pinned to the worker go with it
    }
    here.may_block = here.turn;
}

blocking_section::~blocking_section() { this_thread().may_block = outer_may_block_; }

} // namespace magpie::detail
