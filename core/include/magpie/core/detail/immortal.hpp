#pragma once

#include <cstddef>
#include <new>

namespace magpie::detail {

/// The process's only `T`: made with its first use, and never destroyed, for static objects and threads that run on
/// may use it while the program ends.
template <class T>
T& immortal() noexcept {
    alignas(T) static std::byte place[sizeof(T)];
    static T* const one = ::new (static_cast<void*>(place)) T;
    return *one;
}

} // namespace magpie::detail
