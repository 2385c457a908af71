// A magpie operation is awaited in a magpie::task only; the compiler says what to do
// error: can only be awaited in a magpie::task: wrap the caller's code in one

#include <magpie/magpie.hpp>

#include <chrono>
#include <coroutine>

struct foreign {
    struct promise_type {
        foreign get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};

foreign use() {
#ifdef MUST_NOT_COMPILE
    co_await magpie::sleep_for(std::chrono::milliseconds(1));
#endif
    co_return;
}
