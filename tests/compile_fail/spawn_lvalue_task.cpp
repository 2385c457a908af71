// Spawning a task consumes it, which has to be seen at the call
// error: deleted

#include <magpie/magpie.hpp>

magpie::task<int> one();

void use() {
    magpie::task<int> t = one();
#ifdef MUST_NOT_COMPILE
    magpie::spawn(t).detach();
#else
    magpie::spawn(std::move(t)).detach();
#endif
}
