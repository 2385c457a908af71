// Of lvalues, timers and join handles may be selected again; other operations are passed as rvalues
// error: pass the operation as an rvalue

#include <magpie/magpie.hpp>

magpie::task<> use(magpie::sync::event& e) {
    auto wait = e.wait();
#ifdef MUST_NOT_COMPILE
    co_await magpie::select(wait, magpie::yield_now());
#else
    co_await magpie::select(std::move(wait), magpie::yield_now());
#endif
}
