// CPP-13: a task that is made and not awaited is diagnosed
// error: a task does nothing until it is awaited or spawned

#include <magpie/magpie.hpp>

magpie::task<> nothing();

magpie::task<> use() {
#ifdef MUST_NOT_COMPILE
    nothing();
#endif
    co_await nothing();
}
