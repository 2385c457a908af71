// A task cannot be copied
// error: deleted

#include <magpie/magpie.hpp>

magpie::task<> nothing();

void use() {
    magpie::task<> one = nothing();
#ifdef MUST_NOT_COMPILE
    magpie::task<> two = one;
#else
    magpie::task<> two = std::move(one);
#endif
}
