#include <magpie/sync/semaphore.hpp>

namespace magpie::sync {

namespace {

std::size_t checked(std::size_t permits) {
    if (permits > semaphore::max_permits)
        magpie::detail::throw_usage_error(
            "a semaphore has at most semaphore::max_permits: begin with fewer");
    return permits;
}

} // namespace

semaphore::semaphore(std::size_t permits) : queue_(checked(permits)), total_(permits) {}

void semaphore::add_permits(std::size_t n) {
    std::uint64_t total = total_.load(std::memory_order_relaxed); // checked by the CAS
    do {
        if (n > max_permits - total)
            magpie::detail::throw_usage_error("with these a semaphore would have more permits, taken "
                                              "ones included, than semaphore::max_permits: add fewer");
        // Relaxed: a number alone; permits carry what goes with them.
    } while (!total_.compare_exchange_weak(total, total + n, std::memory_order_relaxed,
                                           std::memory_order_relaxed));
    queue_.give(n);
}

std::size_t semaphore::forget_permits(std::size_t n) noexcept {
    const std::uint64_t taken = queue_.remove(n);
    forget(taken);
    return taken;
}

void semaphore::throw_too_many() {
    magpie::detail::throw_usage_error("a semaphore never has more than semaphore::max_permits permits, "
                                      "so nobody can wait for more: ask for fewer");
}

void semaphore::throw_no_semaphore() {
    magpie::detail::throw_usage_error(
        "there is no semaphore to acquire permits of: pass a shared_ptr that is not null");
}

void semaphore::throw_awaited_twice() {
    magpie::detail::throw_usage_error("this acquire was awaited or moved from before: call acquire() "
                                      "anew for each wait");
}

void semaphore::throw_unrelated() {
    magpie::detail::throw_usage_error("these permits cannot be merged: both have to stand for permits "
                                      "of the same semaphore");
}

} // namespace magpie::sync
