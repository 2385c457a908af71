// A select over nothing would wait for ever
// error: a select over nothing

#include <magpie/magpie.hpp>

magpie::task<> use() {
#ifdef MUST_NOT_COMPILE
    co_await magpie::select();
#else
    co_await magpie::select(magpie::yield_now());
#endif
}
