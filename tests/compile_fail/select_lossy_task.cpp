// SCOPE-13: a select refuses a task of which its author says that it loses something
// error: loses a part of its effect

#include <magpie/core.hpp>

magpie::lossy_task<> take_and_wait() { co_await magpie::yield_now(); }

magpie::task<> use() {
#ifdef MUST_NOT_COMPILE
    co_await magpie::select(take_and_wait(), magpie::yield_now());
#else
    co_await magpie::select(magpie::may_lose(take_and_wait()), magpie::yield_now());
#endif
}
