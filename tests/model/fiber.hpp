#pragma once

#include <array>
#include <csetjmp>
#include <cstddef>

namespace magpie_model {

/// A stack that is switched to by hand. A switch takes no system call.
class fiber {
public:
    /// The stack that the calling thread is on.
    fiber() noexcept = default;

    /// Another stack, on which `body(argument)` begins at the first switch to it. It must not return.
    fiber(std::byte* stack, std::size_t size, void (*body)(void*), void* argument);

    fiber(const fiber&) = delete;
    fiber& operator=(const fiber&) = delete;

    /// Leaves this fiber, on which the caller runs, until somebody switches back to it.
    void switch_to(fiber& other) noexcept;

private:
    static void start() noexcept;

    std::jmp_buf point_ = {};
    std::array<void*, 2> exceptions_ = {}; // being handled, in flight: the compiler's state of a thread
    void (*body_)(void*) = nullptr;
    void* argument_ = nullptr;
};

} // namespace magpie_model
