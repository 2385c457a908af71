#include <magpie/core/foreign.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/yield.hpp>

#include <test/in_child.hpp>
#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using magpie::task;
using test::counted;
using test::noisy;
using test::trace;

// Awaitables that know nothing of magpie, as other libraries have them.
namespace foreign {

using handle = std::coroutine_handle<>;

/// await_suspend gives void.
struct gives_void {
    handle& waiter;
    explicit gives_void(handle& w) : waiter(w) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(handle h) noexcept { waiter = h; }
    int await_resume() const noexcept { return 1; }
};

/// await_suspend gives bool: whether it suspends.
struct gives_bool {
    handle& waiter;
    bool suspends;
    gives_bool(handle& w, bool s) : waiter(w), suspends(s) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(handle h) noexcept {
        waiter = h;
        return suspends;
    }
    int await_resume() const noexcept { return 2; }
};

/// await_suspend gives the handle of who runs next.
struct gives_handle {
    handle& waiter;
    bool suspends;
    gives_handle(handle& w, bool s) : waiter(w), suspends(s) {}
    bool await_ready() const noexcept { return false; }
    handle await_suspend(handle h) noexcept {
        waiter = h;
        return suspends ? handle(std::noop_coroutine()) : h;
    }
    int await_resume() const noexcept { return 3; }
};

struct ready {
    bool await_ready() const noexcept { return true; }
    void await_suspend(handle) const noexcept { std::abort(); }
    int await_resume() const noexcept { return 4; }
};

/// Resumes inside await_suspend.
struct at_once {
    bool await_ready() const noexcept { return false; }
    void await_suspend(handle h) const { h.resume(); }
    int await_resume() const noexcept { return 5; }
};

/// Resumes inside await_suspend, then looks at what it has resumed: whether that has ended, and how
/// much memory it has freed.
struct looks_back {
    bool* ended;
    std::size_t* freed;
    looks_back(bool& e, std::size_t& f) : ended(&e), freed(&f) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(handle h) const {
        const std::size_t before = magpie::detail::cached_frame_bytes();
        h.resume();
        *freed = magpie::detail::cached_frame_bytes() - before;
        *ended = h.done();
    }
    int await_resume() const noexcept { return 6; }
};

/// Resumes on a thread of its own, which may be quicker than await_suspend's return.
struct on_a_thread {
    std::thread& thread;
    explicit on_a_thread(std::thread& t) : thread(t) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(handle h) {
        thread = std::thread([h] { h.resume(); });
    }
    std::thread::id await_resume() const noexcept { return std::this_thread::get_id(); }
};

struct with_member_operator {
    handle& waiter;
    explicit with_member_operator(handle& w) : waiter(w) {}
    gives_void operator co_await() && { return gives_void(waiter); }
};

struct with_free_operator {
    handle& waiter;
    explicit with_free_operator(handle& w) : waiter(w) {}
};
gives_void operator co_await(with_free_operator&& w) { return gives_void(w.waiter); }

/// An awaitable that is only awaited as an lvalue, and whose awaiter can neither move nor be copied.
struct with_lvalue_operator {
    handle& waiter;
    explicit with_lvalue_operator(handle& w) : waiter(w) {}
    struct awaiter : gives_void {
        using gives_void::gives_void;
        awaiter(const awaiter&) = delete;
    };
    awaiter operator co_await() & { return awaiter(waiter); }
};

enum class where { nowhere, conversion, await_ready, await_suspend, await_resume };
struct error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct throws {
    where at;
    explicit throws(where w) : at(w) {}
    struct awaiter {
        where at;
        explicit awaiter(where w) : at(w) {}
        bool await_ready() const {
            if (at == where::await_ready)
                throw error("await_ready");
            return false;
        }
        void await_suspend(handle h) const {
            if (at == where::await_suspend)
                throw error("await_suspend");
            h.resume();
        }
        int await_resume() const {
            if (at == where::await_resume)
                throw error("await_resume");
            return 6;
        }
    };
    awaiter operator co_await() const {
        if (at == where::conversion)
            throw error("operator co_await");
        return awaiter(at);
    }
};

/// Ready at once, but for the value.
struct ready_throws {
    bool await_ready() const noexcept { return true; }
    void await_suspend(handle) const noexcept {}
    int await_resume() const { throw error("await_resume"); }
};

/// Destroys what waits for it, as a queue does that is closed.
struct destroys {
    bool await_ready() const noexcept { return false; }
    void await_suspend(handle h) const { h.destroy(); }
    int await_resume() const noexcept { return 7; }
};

template <class T, bool Ready>
struct gives {
    T value;
    explicit gives(T v) : value(std::forward<T>(v)) {}
    bool await_ready() const noexcept { return Ready; }
    void await_suspend(handle h) const { h.resume(); }
    T await_resume() { return std::forward<T>(value); }
};

} // namespace foreign

namespace {

using foreign::handle;

/// Awaits `awaitable`, and says what came of it and on which thread.
template <class A>
task<int> await(A awaitable) {
    const int n = co_await std::move(awaitable);
    co_return n;
}

/// What awaiting `awaitable` throws; the same when its turn has no budget left.
template <class A>
std::string error_of(A awaitable) {
    const auto error = [](task<int> t) -> std::string {
        try {
            test::run(std::move(t));
        } catch (const std::exception& e) {
            return e.what();
        }
        return "nothing was thrown";
    };
    auto on_the_next_turn = [](A a) -> task<int> {
        for (int i = 0; i < 128; ++i)
            co_await magpie::consume_budget();
        const int n = co_await std::move(a);
        co_return n;
    };
    const std::string later = error(on_the_next_turn(awaitable));
    const std::string now = error(await(std::move(awaitable)));
    return now == later ? now : now + ", but then " + later;
}

} // namespace

TEST_SUITE("core.foreign") {
    TEST_CASE("a standard awaitable can be awaited, whatever its await_suspend gives") {
        test::manual_executor ex;
        handle waiter;
        const auto suspends_then_gives = [&](auto awaitable, int expected) {
            waiter = {};
            auto h = ex.spawn(await(std::move(awaitable)));
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
            REQUIRE(waiter);
            waiter.resume();
            CHECK_FALSE(h.is_finished()); // it resumes on its own turn
            ex.run_until_idle();
            CHECK(h.blocking_join() == expected);
        };
        const auto goes_on = [&](auto awaitable, int expected) {
            auto h = ex.spawn(await(std::move(awaitable)));
            CHECK(ex.run_one());
            CHECK(h.is_finished());
            CHECK(h.blocking_join() == expected);
        };
        SUBCASE("void") { suspends_then_gives(foreign::gives_void(waiter), 1); }
        SUBCASE("true") { suspends_then_gives(foreign::gives_bool(waiter, true), 2); }
        SUBCASE("false") { goes_on(foreign::gives_bool(waiter, false), 2); }
        SUBCASE("the handle of another") {
            suspends_then_gives(foreign::gives_handle(waiter, true), 3);
        }
        SUBCASE("its own handle") { goes_on(foreign::gives_handle(waiter, false), 3); }
        SUBCASE("it is ready") { goes_on(foreign::ready(), 4); }
        SUBCASE("it resumes inside await_suspend") { goes_on(foreign::at_once(), 5); }
        SUBCASE("a member operator co_await") {
            suspends_then_gives(foreign::with_member_operator(waiter), 1);
        }
        SUBCASE("a free operator co_await") {
            suspends_then_gives(foreign::with_free_operator(waiter), 1);
        }
        SUBCASE("std::suspend_never") {
            auto f = []() -> task<> { co_await std::suspend_never(); };
            test::run(ex, f());
        }
    }

    TEST_CASE("what is resumed inside await_suspend is there until await_suspend has returned") {
        CHECK(test::survives([] { // without it, this reads freed memory
            bool ended = false;
            std::size_t freed = 1;
            const int n = test::run(await(foreign::looks_back(ended, freed)));
            return n == 6 && ended && freed == 0;
        }));
    }

    TEST_CASE("an awaitable that is an lvalue stays where it is") {
        test::manual_executor ex;
        handle waiter;
        auto f = [](handle& w) -> task<int> {
            foreign::with_lvalue_operator awaitable(w);
            int sum = 0;
            for (int i = 0; i < 3; ++i)
                sum += co_await awaitable;
            foreign::gives_void direct(w);
            sum += co_await direct;
            co_return sum;
        };
        auto h = ex.spawn(f(waiter));
        for (int i = 0; i < 4; ++i) {
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
            waiter.resume();
        }
        ex.run_until_idle();
        CHECK(h.blocking_join() == 4);
    }

    TEST_CASE("a task that is resumed on another thread goes on on its own turn") {
        test::manual_executor ex;
        auto f = [](std::thread& t) -> task<bool> {
            const std::thread::id before = std::this_thread::get_id();
            const std::thread::id resumed = co_await foreign::on_a_thread(t);
            const std::thread::id after = std::this_thread::get_id();
            co_return before == after&& resumed != before;
        };
        for (int i = 0; i < 100; ++i) {
            std::thread t;
            auto h = ex.spawn(f(t));
            ex.run_until_idle();
            t.join();
            ex.run_until_idle();
            CHECK(h.blocking_join());
        }
    }

    TEST_CASE("CPP-07 an exception from any part of an awaitable is thrown where it is awaited") {
        using foreign::where;
        CHECK(error_of(foreign::throws(where::conversion)) == "operator co_await");
        CHECK(error_of(foreign::throws(where::await_ready)) == "await_ready");
        CHECK(error_of(foreign::throws(where::await_suspend)) == "await_suspend");
        CHECK(error_of(foreign::throws(where::await_resume)) == "await_resume");
        CHECK(error_of(foreign::throws(where::nowhere)) == "nothing was thrown");
        CHECK(error_of(foreign::ready_throws()) == "await_resume");
    }

    TEST_CASE("one whose owner destroys the waiting coroutine gives std::logic_error") {
        CHECK(error_of(foreign::destroys()).find("destroyed the coroutine") != std::string::npos);

        test::manual_executor ex;
        handle waiter;
        auto h = ex.spawn(await(foreign::gives_void(waiter)));
        ex.run_until_idle();
        waiter.destroy();
        ex.run_until_idle();
        CHECK_THROWS_AS(h.blocking_join(), std::logic_error);

        auto elsewhere = ex.spawn(await(foreign::gives_void(waiter)));
        ex.run_until_idle();
        std::thread([&] { waiter.destroy(); }).join();
        ex.run_until_idle();
        CHECK_THROWS_AS(elsewhere.blocking_join(), std::logic_error);
    }

    TEST_CASE("values of all kinds come through") {
        using foreign::gives;
        SUBCASE("a value, moved") {
            counted::alive = 0;
            auto f = []() -> task<int> {
                const auto p = co_await gives<std::unique_ptr<int>, false>(std::make_unique<int>(1));
                const auto q = co_await gives<std::unique_ptr<int>, true>(std::make_unique<int>(2));
                const counted c = co_await gives<counted, false>(counted(3));
                co_return *p + *q + c.value;
            };
            CHECK(test::run(f()) == 6);
            CHECK(counted::alive.load() == 0);
        }
        SUBCASE("an lvalue reference") {
            int n = 0;
            auto f = [](int& m) -> task<bool> {
                int& a = co_await gives<int&, false>(m);
                int& b = co_await gives<int&, true>(m);
                const int& c = co_await gives<const int&, false>(m);
                co_return &a == &m && &b == &m && &c == &m;
            };
            CHECK(test::run(f(n)));
        }
        SUBCASE("void") {
            struct nothing {
                bool await_ready() const noexcept { return false; }
                void await_suspend(handle h) const { h.resume(); }
                void await_resume() const noexcept {}
            };
            auto f = []() -> task<> { co_await nothing(); };
            test::run(f());
        }
        SUBCASE("aligned to 64") {
            struct alignas(64) wide {
                const void* self = this;
                wide() = default;
                wide(const wide&) noexcept {}
            };
            auto f = []() -> task<bool> {
                const wide w = co_await gives<wide, false>(wide());
                co_return reinterpret_cast<std::uintptr_t>(w.self) % 64 == 0;
            };
            CHECK(test::run(f()));
        }
    }

    TEST_CASE("what an awaitable gives as an rvalue reference comes as a value") {
        CHECK(test::survives([] {
            using foreign::gives;
            auto f = [](std::unique_ptr<int> p, std::unique_ptr<int> q) -> task<int> {
                const std::unique_ptr<int> a = co_await gives<std::unique_ptr<int>&&, false>(
                    std::move(p));
                const std::unique_ptr<int> b = co_await gives<std::unique_ptr<int>&&, true>(
                    std::move(q));
                co_return *a + *b;
            };
            return test::run(f(std::make_unique<int>(1), std::make_unique<int>(2))) == 3;
        }));
    }

    TEST_CASE("a dropped wait ends when the foreign one does, and takes no value") {
        test::manual_executor ex;
        handle waiter;
        trace log;
        auto f = [](trace& l, handle& w) -> task<> {
            const noisy local(l, "local");
            co_await foreign::gives_void(w);
            l.add("resumed");
        };
        auto h = ex.spawn(f(log, waiter));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text().empty()); // the awaiter stands in this frame
        SUBCASE("resumed") { waiter.resume(); }
        SUBCASE("resumed on another thread") {
            std::thread([&] { waiter.resume(); }).join();
        }
        SUBCASE("destroyed") { waiter.destroy(); }
        ex.run_until_idle();
        CHECK(log.text() == "local");
        CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
    }

    TEST_CASE("in a timeout, unconstrained, and in a loop") {
        auto f = []() -> task<int> {
            const std::optional<int> a = co_await magpie::timeout(1h, foreign::at_once());
            const int b = co_await magpie::unconstrained(foreign::at_once());
            foreign::at_once named;
            const std::optional<int> c = co_await magpie::timeout(1h, named);
            co_return a.value_or(0) + b + c.value_or(0);
        };
        CHECK(test::run(f()) == 15);
    }

    TEST_CASE("a value comes through a timeout") {
        using foreign::gives;
        auto f = []() -> task<std::string> {
            std::string text = "text";
            std::optional<std::string> got = co_await magpie::timeout(
                1h, gives<std::string, false>(std::move(text)));
            co_return got.value_or("nothing");
        };
        CHECK(test::run(f()) == "text");
    }

    TEST_CASE("a long loop of foreign awaits takes no stack") {
        constexpr int n = test::scaled(1'000'000);
        int sum = 0;
        test::on_small_stack([&] {
            auto f = [](int times, int& s) -> task<> {
                for (int i = 0; i < times; ++i)
                    s += co_await foreign::at_once();
            };
            test::run(f(n, sum));
        });
        CHECK(sum == 5 * n);
    }

    TEST_CASE("a foreign awaitable that is always ready takes budget") {
        test::manual_executor ex;
        auto f = [](int times) -> task<> {
            for (int i = 0; i < times; ++i)
                co_await foreign::ready();
        };
        ex.spawn(f(1000)).detach();
        ex.run_until_idle();
        CHECK(ex.turns() == 1000 / 128 + 1);
    }

    TEST_CASE("a callback interface becomes an awaitable in a few lines") {
        // As a user would write it: the handle is all that is kept.
        struct service {
            std::function<void(int)> callback;
        };
        struct request {
            service& s;
            int answer = 0;
            explicit request(service& to) : s(to) {}
            bool await_ready() const noexcept { return false; }
            void await_suspend(handle h) {
                s.callback = [this, h](int a) {
                    answer = a;
                    h.resume();
                };
            }
            int await_resume() const noexcept { return answer; }
        };
        test::manual_executor ex;
        service s;
        auto f = [](service& to) -> task<int> {
            const int n = co_await request(to);
            co_return n;
        };
        auto h = ex.spawn(f(s));
        ex.run_until_idle();
        std::thread([&] { s.callback(9); }).join();
        ex.run_until_idle();
        CHECK(h.blocking_join() == 9);
    }
}
