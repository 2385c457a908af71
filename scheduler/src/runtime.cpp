#include <magpie/scheduler/runtime.hpp>

#include "runtime_core.hpp"

#include <magpie/core/config.hpp>
#include <magpie/core/detail/inherited.hpp>
#include <magpie/core/detail/may_block.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/log.hpp>

#include <stdexcept>
#include <string>
#include <utility>

namespace magpie {

namespace detail {

executor& executor_of(runtime_group& group) {
    require_own(group.id_base());
    return group.place();
}

void require_no_task(const char* what) {
    const thread_state& here = this_thread();
    if (here.turn != nullptr && here.turn != here.may_block)
        throw std::logic_error(std::string(what) +
                               " inside a task would block its worker: co_await the task or spawn "
                               "it, or call this in spawn_blocking or block_in_place");
    if (no_blocking::is_here())
        throw std::logic_error(std::string(what) +
                               " in a function that was submitted to a shard would block all of the "
                               "shard: submit one that gives a task, and co_await in that");
}

executor& local_executor() {
    worker* const w = worker::current();
    if (w == nullptr || this_thread().turn == nullptr ||
        w->core().group.options.layout == layout::multi_thread)
        throw_usage_error("spawn_local needs a task of a current_thread or thread_per_core runtime: "
                          "elsewhere tasks move between threads, use spawn");
    return w->core();
}

void drive_until_finished(runtime_group& group, const abort_handle& root) {
    const auto finished = [&] { return root.is_finished() && (!group.closing() || group.all_ended()); };
    for (;;) {
        // Acquire: pairs with seat_changed_now(); then a look, then the sleep on what was read.
        const std::uint32_t seen = group.seat_changed.word.load(std::memory_order_acquire);
        group.seat_waiters.fetch_add(1, std::memory_order_seq_cst); // then the root: see run_until()
        const bool over = root.is_finished();
        // Acquire: what the last one who sat here has left behind.
        const bool seated = !over && !group.seat_taken.exchange(true, std::memory_order_acquire);
        if (!over && !seated)
            group.seat_changed.wait(seen);
        group.seat_waiters.fetch_sub(1, std::memory_order_relaxed);
        if (over)
            return;
        if (seated) {
            group.shards.front()->workers.front()->run_until(finished,
                                                             detail::futex::time_point::max());
            group.seat_taken.store(false, std::memory_order_release); // pairs with the exchange
            group.seat_changed_now();
            return;
        }
    }
}

} // namespace detail

// --- enter_guard ---

enter_guard::enter_guard(std::shared_ptr<detail::runtime_group> group)
    : group_(std::move(group)), entered_(&detail::executor_of(*group_)),
      outer_(std::exchange(detail::this_thread().executor, entered_)) {}

enter_guard::~enter_guard() {
    detail::thread_state& here = detail::this_thread();
    if (detail::is_inherited(group_->id_base())) // the fork has made this thread forget it
        return;
    if (here.executor != entered_)
        detail::fatal("enter guards go in the reverse order in which they were made: a later one "
                      "still lives",
                      __FILE__, __LINE__);
    here.executor = outer_;
}

// --- runtime_handle ---

runtime_handle runtime_handle::current(std::source_location where) {
    executor& e = detail::current_executor(where);
    detail::runtime_core* const core = detail::runtime_core::of(e);
    if (core == nullptr)
        detail::throw_usage_error("this task's executor is no magpie::runtime");
    return runtime_handle(core->group.shared_from_this());
}

runtime_metrics runtime_handle::metrics() const {
    detail::require_own(group_->id_base());
    return group_->metrics();
}
std::string_view runtime_handle::name() const noexcept { return group_->options.name; }
std::uint64_t runtime_handle::id() const noexcept { return group_->id; }
layout runtime_handle::layout() const noexcept { return group_->options.layout; }
std::size_t runtime_handle::worker_threads() const noexcept { return group_->workers(); }
std::size_t runtime_handle::shards() const noexcept { return group_->shards.size(); }

// --- runtime ---

namespace {

/// Whether the calling thread may not wait until `core` has ended: a task has its thread for a turn,
/// and what runs on one of the runtime's own threads (a blocking call, a hook, the destructor of a
/// result) would wait for itself.
bool must_not_wait_for(const detail::runtime_group& group) noexcept {
    const detail::thread_state& here = detail::this_thread();
    const detail::worker* const w = detail::worker::current(); // of current_thread: a thread lent to it
    return (here.turn != nullptr && here.turn != here.may_block) || group.pool.owns_this_thread() ||
           (w != nullptr && &w->core().group == &group);
}

} // namespace

runtime::runtime() : runtime(runtime_builder().build()) {}

runtime::runtime(std::shared_ptr<detail::runtime_group> group) noexcept : handle_(std::move(group)) {}

runtime& runtime::operator=(runtime&& other) noexcept {
    runtime old(std::move(*this));
    handle_ = std::move(other.handle_);
    return *this;
}

runtime::~runtime() {
    if (handle_.group_ == nullptr) {
        // Given up, perhaps: who had it in block_on() may have driven it to its end since.
        detail::runtime_group::free_leftovers();
        return;
    }
    detail::runtime_group& group = *handle_.group_;
    group.require_own_or_terminate();
    if (must_not_wait_for(group)) {
        detail::fatal("the runtime that was made here was destroyed inside a task, or on one of its "
                      "own threads, which would have to wait for itself: call "
                      "shutdown_background() there, or destroy it on a plain thread",
                      group.made_at.file_name(), static_cast<int>(group.made_at.line()));
    }
    group.shutdown(detail::futex::time_point::max());
}

bool runtime::shutdown_timeout(std::chrono::nanoseconds limit) {
    if (handle_.group_ == nullptr)
        return true;
    detail::runtime_group& group = *handle_.group_;
    detail::require_own(group.id_base());
    const auto now = std::chrono::steady_clock::now();
    const auto room = std::chrono::steady_clock::time_point::max() - now;
    // A task cannot wait; it still gives the tasks of a runtime that nobody drives their last turns.
    const bool waits = !must_not_wait_for(group);
    const auto deadline = !waits         ? now
                          : limit < room ? now + std::max(limit, std::chrono::nanoseconds(0))
                                         : std::chrono::steady_clock::time_point::max();
    const bool ended = group.shutdown(deadline);
    if (!ended) {
        if (waits)
            group.report_leftovers();
        group.abandon();
    }
    handle_.group_ = nullptr;
    return ended;
}

void runtime::shutdown_background() noexcept {
    if (handle_.group_ == nullptr)
        return;
    // A current_thread runtime that nobody drives has no thread of its own: drop its tasks here.
    detail::runtime_group& group = *handle_.group_;
    group.require_own_or_terminate();
    if (!group.has_threads()) {
        group.shutdown(std::chrono::steady_clock::now());
        // Relaxed: a hint. Who has the seat drives them to their end.
        if (!group.all_ended() && !group.seat_taken.load(std::memory_order_relaxed))
            group.report_leftovers();
    }
    group.abandon();
    handle_.group_ = nullptr;
}

std::optional<std::size_t> worker_index() noexcept {
    const detail::worker* const w = detail::worker::current();
    return w != nullptr ? std::optional(w->index()) : std::nullopt;
}

} // namespace magpie
