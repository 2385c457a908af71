// CPP-15: awaiting a task consumes it, which has to be seen at the await
// error: awaited once, as co_await std::move\(task\)|deleted

#include <magpie/magpie.hpp>

magpie::task<> nothing();

magpie::task<> use() {
    magpie::task<> one = nothing();
#ifdef MUST_NOT_COMPILE
    co_await one;
#else
    co_await std::move(one);
#endif
}
