// An operation that is not awaited does nothing, and is diagnosed
// error: -W(error=)?unused-(result|value)

#include <magpie/magpie.hpp>

#include <chrono>

magpie::task<> use() {
#ifdef MUST_NOT_COMPILE
    magpie::sleep_for(std::chrono::milliseconds(1));
#endif
    co_await magpie::sleep_for(std::chrono::milliseconds(1));
}
