#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <pthread.h>
#include <stdexcept>
#include <utility>

namespace test {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MAGPIE_TEST_SANITIZED 1
#endif
#endif

#if defined(MAGPIE_TEST_SANITIZED)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

/// `full` things, or a fiftieth under a sanitizer.
constexpr int scaled(int full) { return sanitized ? full / 50 : full; }

/// Runs `f` on a thread with a stack of 256 KiB: what recurses deeply there ends the program.
/// Sanitizers get more: they keep some of each call.
inline void on_small_stack(std::function<void()> f) {
    constexpr std::size_t bytes = sanitized ? 8 << 20 : 256 << 10;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, bytes);
    pthread_t thread;
    const int failed = pthread_create(
        &thread, &attributes,
        [](void* p) -> void* {
            (*static_cast<std::function<void()>*>(p))();
            return nullptr;
        },
        &f);
    pthread_attr_destroy(&attributes);
    if (failed != 0)
        throw std::runtime_error("no thread with a small stack");
    pthread_join(thread, nullptr);
}

} // namespace test
