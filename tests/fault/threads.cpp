#include "threads.hpp"

#include <atomic>
#include <cstddef>
#include <limits>
#include <system_error>
#include <thread>

namespace test {

namespace {

constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

// Relaxed: counts. What is refused is decided on the thread that makes the thread.
std::atomic<std::size_t> first{never}; // of those from now on that are refused
std::atomic<std::size_t> last{never};  // the first that is not
std::atomic<std::size_t> made{0};
std::atomic<std::size_t> refusals{0};

bool refused() noexcept {
    const std::size_t n = made.fetch_add(1, std::memory_order_relaxed) + 1;
    if (n < first.load(std::memory_order_relaxed) || n >= last.load(std::memory_order_relaxed))
        return false;
    refusals.fetch_add(1, std::memory_order_relaxed);
    return true;
}

} // namespace

refused_thread::refused_thread(std::size_t n, std::size_t times) noexcept {
    made.store(0, std::memory_order_relaxed);
    refusals.store(0, std::memory_order_relaxed);
    first.store(n, std::memory_order_relaxed);
    last.store(n + times, std::memory_order_relaxed);
}

std::size_t refused_thread::stop() noexcept {
    first.store(never, std::memory_order_relaxed);
    return refusals.load(std::memory_order_relaxed);
}

} // namespace test

// std::thread::_M_start_thread(std::unique_ptr<_State>, void (*)()): the pointer is handed over by its address.
extern "C" {

void __real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
    std::thread* self, void* state, void (*depend)());

void __wrap__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
    std::thread* self, void* state, void (*depend)()) {
    if (test::refused())
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
    __real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
        self, state, depend);
}

} // extern "C"
