// Either each case of a select has a handler or none has
// error: either each case of a select has a handler

#include <magpie/magpie.hpp>

magpie::task<> use() {
    auto handler = [] {};
#ifdef MUST_NOT_COMPILE
    co_await magpie::select(magpie::on(magpie::yield_now(), handler), magpie::yield_now());
#else
    co_await magpie::select(magpie::on(magpie::yield_now(), handler));
#endif
}
