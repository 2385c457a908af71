#include <magpie/core/detail/inherited.hpp>

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/error.hpp>

#include <cstddef>
#include <new>
#include <pthread.h>

namespace magpie::detail {

#if defined(MAGPIE_MODEL) // nobody forks there, and each load would be one more step to explore

void runtime_begins(std::uint64_t) {}
void runtime_ends() noexcept {}
bool is_inherited(std::uint64_t) noexcept { return false; }
bool has_inherited() noexcept { return false; }

#else

namespace {

// Relaxed, all of it: the handler runs when the process has one thread, which has done all that its others
// will see. What another thread of the parent was just about to count has no users in the child.
atomic<std::size_t> runtimes{0};
atomic<std::uint64_t> last_end{0};
atomic<std::uint64_t> inherited_end{0}; // 0: nothing was

void forget_parent() noexcept {
    if (runtimes.load(std::memory_order_relaxed) == 0)
        return;
    inherited_end.store(last_end.load(std::memory_order_relaxed), std::memory_order_relaxed);
    thread_state& here = this_thread();
    const std::uint32_t random = here.random;
    here = thread_state();
    here.random = random;
}

} // namespace

void runtime_begins(std::uint64_t end) {
    static const bool watched = [] {
        if (::pthread_atfork(nullptr, nullptr, &forget_parent) != 0)
            throw std::bad_alloc();
        return true;
    }();
    static_cast<void>(watched);
    std::uint64_t seen = last_end.load(std::memory_order_relaxed);
    while (seen < end && !last_end.compare_exchange_weak(seen, end, std::memory_order_relaxed,
                                                         std::memory_order_relaxed)) {}
    runtimes.fetch_add(1, std::memory_order_relaxed);
}

void runtime_ends() noexcept { runtimes.fetch_sub(1, std::memory_order_relaxed); }

bool is_inherited(std::uint64_t task_id) noexcept {
    return task_id < inherited_end.load(std::memory_order_relaxed);
}

bool has_inherited() noexcept { return inherited_end.load(std::memory_order_relaxed) != 0; }

#endif

void require_own(std::uint64_t task_id) {
    if (is_inherited(task_id)) [[unlikely]]
        throw_usage_error(inherited_runtime);
}

} // namespace magpie::detail
