#include <magpie/sync/lock_trace.hpp>

#include <magpie/sync/guarded.hpp>
#include <magpie/sync/guarded_shared.hpp>
#include <magpie/sync/mutex.hpp>
#include <magpie/sync/shared_mutex.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

using namespace magpie::sync;

// What a build with MAGPIE_LOCK_TRACE does is tested in tests/lock_trace.

namespace {
struct account {
    mutex lock{"account"};
    guarded<int> balance{object_name("balance"), 3};
};
mutex of_the_program("of the program");
} // namespace

TEST_SUITE("sync.lock_trace") {
    TEST_CASE("a lock may have a name, whatever the build") {
        shared_mutex routes("routes");
        shared_mutex few("few", 2);
        guarded_shared<std::string> motto(object_name("motto"), "festina lente");
        guarded<std::string> no_name("festina");
        account a;
        CHECK(**motto.try_lock() == "festina lente");
        CHECK(**no_name.try_lock() == "festina");
        CHECK(**a.balance.try_lock() == 3);
        CHECK(a.lock.try_lock());
        CHECK(of_the_program.try_lock());
        CHECK(routes.try_lock());
        const auto one = few.try_lock_shared();
        const auto two = few.try_lock_shared();
        CHECK_FALSE(few.try_lock_shared());
        CHECK_THROWS_AS(shared_mutex("none", 0), std::logic_error);
    }

    TEST_CASE(
        "without MAGPIE_LOCK_TRACE nothing is kept, and to ask is an error that says what to do") {
        mutex m("m");
        if constexpr (lock_trace_is_on) {
            CHECK(lock_report().empty());
            return;
        }
        static_assert(lock_trace_is_on || sizeof(mutex::guard) == sizeof(void*));
        static_assert(lock_trace_is_on || sizeof(mutex) == sizeof(magpie::sync::detail::permit_queue));
        const std::string what_to_do = "who has a lock is known to a build with -DMAGPIE_LOCK_TRACE=ON "
                                       "alone: configure magpie with it, and build anew what uses it";
        CHECK_THROWS_WITH_AS(static_cast<void>(lock_report()), what_to_do.c_str(), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(lock_owners(m)), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(lock_waiters(m)), std::logic_error);
    }
}
