// A coroutine that loses is gone: it cannot be selected again
// error: a coroutine that loses is destroyed

#include <magpie/magpie.hpp>

magpie::task<> nothing();

magpie::task<> use() {
    magpie::task<> one = nothing();
#ifdef MUST_NOT_COMPILE
    co_await magpie::select(one, magpie::yield_now());
#else
    co_await magpie::select(std::move(one), magpie::yield_now());
#endif
}
