#undef _FORTIFY_SOURCE // it takes a jump to another stack for a mistake

#include "fiber.hpp"

#include <cstddef>
#include <cstring>
#include <cxxabi.h>
#include <ucontext.h>

namespace magpie_model {

namespace {

fiber* starting;
ucontext_t creator;

} // namespace

// ucontext makes the stack, setjmp does the switching: swapcontext would save the signal mask, by a
// system call, each time. Fibers are never ended: they are used again in the next execution.
fiber::fiber(std::byte* stack, std::size_t size, void (*body)(void*), void* argument)
    : body_(body), argument_(argument) {
    ucontext_t first;
    ::getcontext(&first);
    first.uc_stack.ss_sp = stack;
    first.uc_stack.ss_size = size;
    first.uc_link = nullptr;
    ::makecontext(&first, &fiber::start, 0);
    starting = this;
    ::swapcontext(&creator, &first);
}

void fiber::start() noexcept {
    fiber* const self = starting;
    if (_setjmp(self->point_) == 0)
        ::setcontext(&creator);
    self->body_(self->argument_);
}

void fiber::switch_to(fiber& other) noexcept {
    void* const state = __cxxabiv1::__cxa_get_globals();
    std::memcpy(exceptions_.data(), state, sizeof exceptions_);
    std::memcpy(state, other.exceptions_.data(), sizeof exceptions_);
    if (_setjmp(point_) == 0)
        std::longjmp(other.point_, 1);
}

} // namespace magpie_model
