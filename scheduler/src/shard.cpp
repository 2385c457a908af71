#include <magpie/scheduler/shard.hpp>

#include "runtime_core.hpp"

#include <magpie/scheduler/foreign_ptr.hpp>
#include <magpie/scheduler/spawn_on_worker.hpp>

#include <magpie/core/detail/inherited.hpp>
#include <magpie/core/detail/may_block.hpp>
#include <magpie/core/error.hpp>

#include <stdexcept>
#include <string>

namespace magpie {

namespace detail {

namespace {

std::string at(std::source_location where, const char* what) {
    return std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": " + what;
}

/// Null if the executor is none of a runtime.
runtime_core* core_of(executor& e) noexcept {
    if (worker* const w = worker::current(); w != nullptr && &e == &w->core()) // without a cast: mostly
        return &w->core();
    return runtime_core::of(e);
}

runtime_core& core_here(const char* what, std::source_location where) {
    runtime_core* const core = core_of(current_executor(where));
    if (core == nullptr)
        throw std::logic_error(at(where, what) +
                               " needs a magpie::runtime: this task's executor is none");
    return *core;
}

runtime_core& numbered(runtime_group& group, std::size_t shard, const char* what,
                       std::source_location where) {
    if (shard >= group.shards.size())
        throw std::out_of_range(at(where, what) + ": there is no shard " + std::to_string(shard) +
                                ": the runtime has " + std::to_string(group.shards.size()) +
                                ", counted from 0 (shard_count())");
    return *group.shards[shard];
}

executor& seat_of(runtime_group& group, std::size_t worker, std::source_location where) {
    if (worker >= group.workers())
        throw std::out_of_range(at(where, "spawn_on_worker") + ": there is no worker " +
                                std::to_string(worker) + ": the runtime has " +
                                std::to_string(group.workers()) +
                                ", counted from 0 (worker_threads())");
    if (group.options.layout == layout::multi_thread)
        return group.shards.front()->workers[worker]->seat;
    return *group.shards[worker]; // a worker each, or there is one
}

} // namespace

executor& worker_here(std::size_t worker, std::source_location where) {
    return seat_of(core_here("spawn_on_worker", where).group, worker, where);
}

executor& worker_of(const runtime_handle& on, std::size_t worker, std::source_location where) {
    runtime_group& group = *group_access::get(on);
    require_own(group.id_base());
    return seat_of(group, worker, where);
}

runtime_core& shard_of(runtime_group& group, std::size_t shard, const char* what,
                       std::source_location where) {
    require_own(group.id_base());
    return numbered(group, shard, what, where);
}

runtime_core& shard_here(std::size_t shard, const char* what, std::source_location where) {
    return numbered(core_here(what, where).group, shard, what, where);
}

executor& executor_of(runtime_core& shard) noexcept { return shard; }

bool is_on_shard(const runtime_handle& rt, std::size_t shard) noexcept {
    const worker* const w = worker::current();
    return w != nullptr && &w->core().group == group_access::get(rt).get() && w->core().shard == shard;
}

void fatal_without_way_home() noexcept {
    fatal(
        "a foreign_ptr was destroyed or reset away from its shard, and there is no memory to send the "
        "object home, to be destroyed there: where memory may run out, take it home before, by "
        "submit_to(p.shard(), ...), whose failure is an exception",
        __FILE__, __LINE__);
}

// --- submission ---

submission::submission(runtime_core& to, executor& from)
    : to_(to), from_(core_of(from)),
      way_(&to == from_                                     ? way::none
           : from_ != nullptr && &from_->group == &to.group ? way::mail
                                                            : way::spawn) {
    if (way_ == way::mail)
        shard_mail::connect(from_->mail, to_.mail);
}

void submission::go() noexcept {
    switch (way_) {
    case way::none: begin(); break;
    case way::mail: from_->post(to_.shard, *this); break;
    case way::spawn: begin_from_outside(); break;
    }
}

void submission::reply() noexcept {
    goes_home_ = true;
    if (way_ == way::mail)
        to_.post(from_->shard, *this);
    else
        ended();
}

void submission::arrive() noexcept {
    if (goes_home_) {
        come_home();
        ended();
        return;
    }
    const no_blocking here; // it is no turn: what is called belongs to no task
    begin();
}

void submission::answered(const enclosure* e) noexcept {
    come_home();
    if (e != nullptr)
        take_answer(*e);
    ended();
}

void submission::come_home() noexcept {
    is_home_ = true;
    if (is_revoked())
        from_->mail.end_revoking();
}

void* submission::revoked() noexcept {
    static char mark;
    return &mark;
}

void submission::revoke() noexcept {
    if (is_home_) // and will surface
        return;
    if (way_ == way::mail)
        from_->mail.begin_revoking();
    void* const runner = runner_.exchange(revoked(), std::memory_order_acquire); // (K)
    if (runner != nullptr)
        static_cast<cell*>(runner)->abort();
}

} // namespace detail

std::size_t shard_count(std::source_location where) {
    return detail::core_here("shard_count", where).group.shards.size();
}

std::size_t this_shard(std::source_location where) {
    return detail::core_here("this_shard", where).shard;
}

} // namespace magpie
