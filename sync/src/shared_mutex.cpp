#include <magpie/sync/shared_mutex.hpp>

namespace magpie::sync {

namespace {

std::size_t checked_readers(std::size_t max_readers) {
    if (max_readers == 0 || max_readers > shared_mutex::most_readers)
        magpie::detail::throw_usage_error(
            "a shared_mutex has at least one reader at a time and at most "
            "shared_mutex::most_readers: give a max_readers between them");
    return max_readers;
}

} // namespace

shared_mutex::shared_mutex(std::size_t max_readers)
    : max_readers_(checked_readers(max_readers)), readers_(max_readers) {
    if (max_readers == 1)
        traced_.set_one_reader();
}
shared_mutex::shared_mutex(object_name name, std::size_t max_readers)
    : max_readers_(checked_readers(max_readers)), readers_(max_readers), traced_(name) {
    if (max_readers == 1)
        traced_.set_one_reader();
}

bool shared_mutex::try_take_upgradable() noexcept {
    if (!upgrade_.try_take(1))
        return false;
    if (readers_.try_take(1))
        return true;
    upgrade_.give(1);
    return false;
}

} // namespace magpie::sync
