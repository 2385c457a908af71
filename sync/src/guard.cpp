#include <magpie/sync/guard.hpp>
#include <magpie/sync/mutex.hpp>

#include <ostream>

namespace magpie::sync {

namespace detail {

void throw_not_locked() {
    magpie::detail::throw_usage_error("this guard holds no lock: it was moved from or unlocked before; "
                                      "lock anew, and use that guard");
}

void throw_locked_twice() {
    magpie::detail::throw_usage_error("this wait for a lock was awaited or moved from before: call "
                                      "lock() anew for each wait");
}

void throw_no_mutex() {
    magpie::detail::throw_usage_error("there is nothing to lock: pass a shared_ptr that is not null");
}

void throw_still_locked() {
    magpie::detail::throw_usage_error(
        "the value is still locked: let go of all guards before it is taken out");
}

} // namespace detail

std::ostream& operator<<(std::ostream& out, const mutex& m) {
    return out << (m.is_locked() ? "mutex(locked)" : "mutex(free)");
}

} // namespace magpie::sync
