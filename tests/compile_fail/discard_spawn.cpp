// Dropping a join_handle detaches its task, which has to be said
// error: dropping the handle detaches the task: say so with detach

#include <magpie/magpie.hpp>

magpie::task<> nothing();

void use() {
#ifdef MUST_NOT_COMPILE
    magpie::spawn(nothing());
#else
    magpie::spawn(nothing()).detach();
#endif
}
