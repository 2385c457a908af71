#include <magpie/core/task.hpp>

#include <magpie/sync/event.hpp>

#include <test/in_child.hpp>
#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using magpie::task;
using test::counted;
using test::noisy;
using test::trace;

namespace {

task<int> twice(int n) { co_return 2 * n; }

/// An object that has to stand at an address that 64 divides.
struct alignas(64) wide {
    static inline int misplaced = 0;
    static inline int alive = 0;
    int value;

    explicit wide(int v) noexcept : value(v) { check(1); }
    wide(const wide& other) noexcept : value(other.value) { check(1); }
    ~wide() { check(-1); }

private:
    void check(int change) const {
        alive += change;
        auto* volatile address = this; // else the compiler knows the answer
        if (reinterpret_cast<std::uintptr_t>(address) % 64 != 0)
            ++misplaced;
    }
};

/// Throws when it is moved for the n-th time.
struct throws_on_move {
    static inline int moves_left = 0;
    throws_on_move() = default;
    throws_on_move(throws_on_move&&) {
        if (moves_left-- == 0)
            throw std::domain_error("moved once too often");
    }
};

struct base_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct derived_error : base_error {
    explicit derived_error(int c) : base_error("derived"), code(c) {}
    int code;
};

template <class E>
task<> fail(E e) {
    throw e;
    co_return;
}

/// Sees whether anything dies between the begin and the end of its suspension.
struct probe : magpie::operation<probe> {
    static inline bool suspending = false;
    static inline bool destroyed_inside = false;
    magpie::sync::event* other;
    explicit probe(magpie::sync::event* e) : other(e) {}
    probe(probe&&) = default;
    bool try_complete() noexcept { return false; }
    bool publish() noexcept {
        suspending = true;
        wake(*this); // ready before it has suspended
        other->set();
        suspending = false;
        return true;
    }
    magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::coming; }
    void await_resume() noexcept {}
};
struct watcher {
    ~watcher() { probe::destroyed_inside |= probe::suspending; }
};

} // namespace

TEST_SUITE("core.task") {
    TEST_CASE("a task does nothing until it is awaited") {
        bool ran = false;
        auto child = [](bool& r) -> task<int> {
            r = true;
            co_return 7;
        };
        task<int> t = child(ran);
        CHECK(t);
        CHECK_FALSE(ran);

        auto parent = [](task<int> c, bool& r) -> task<int> {
            const bool before = r;
            const int value = co_await std::move(c);
            co_return before ? -1 : value;
        };
        CHECK(test::run(parent(std::move(t), ran)) == 7);
        CHECK(ran);
        CHECK_FALSE(t); // NOLINT: moved from on purpose
    }

    TEST_CASE("a task that is destroyed unstarted destroys its parameters and nothing else") {
        trace log;
        {
            auto f = [](trace& l, noisy) -> task<> {
                l.add("body");
                co_return;
            };
            const task<> t = f(log, noisy(log, "parameter"));
            CHECK(log.text().empty());
        }
        CHECK(log.text() == "parameter");
    }

    TEST_CASE("a task moves, and cannot be copied") {
        static_assert(!std::is_copy_constructible_v<task<>> && !std::is_copy_assignable_v<task<>>);
        static_assert(std::is_nothrow_move_constructible_v<task<>>);
        static_assert(std::is_nothrow_move_assignable_v<task<>>);
        static_assert(sizeof(task<int>) == sizeof(void*));

        task<int> empty;
        CHECK_FALSE(empty);
        task<int> a = twice(1);
        task<int> b = std::move(a);
        CHECK_FALSE(a); // NOLINT: moved from on purpose
        a = std::move(b);
        CHECK(test::run(std::move(a)) == 2);
    }

    TEST_CASE("assigning to a task destroys what it held") {
        trace log;
        auto f = [](noisy) -> task<> { co_return; };
        task<> t = f(noisy(log, "old"));
        t = f(noisy(log, "new"));
        CHECK(log.take() == "old");
        t = task<>();
        CHECK(log.take() == "new");
        task<>& self = t;
        t = std::move(self);
        CHECK_FALSE(t);
    }

    TEST_CASE("CPP-15 awaiting a task twice, or one that is empty, throws std::logic_error") {
        auto again = []() -> task<std::string> {
            task<int> t = twice(4);
            const int value = co_await std::move(t);
            try {
                co_await std::move(t); // NOLINT: what is tested
            } catch (const std::logic_error& e) {
                co_return std::to_string(value) + " " + e.what();
            }
            co_return "nothing was thrown";
        };
        CHECK(test::run(again()).starts_with("8 this task is empty"));
    }

    TEST_CASE("CPP-16 a result may be void, a reference, move-only, or aligned to 64") {
        SUBCASE("void") {
            int n = 0;
            auto f = [](int& m) -> task<> {
                auto child = [](int& k) -> task<> {
                    ++k;
                    co_return;
                };
                co_await child(m);
                co_await child(m);
            };
            test::run(f(n));
            CHECK(n == 2);
        }
        SUBCASE("a reference") {
            int n = 0;
            auto f = [](int& m) -> task<int&> {
                auto child = [](int& k) -> task<int&> { co_return k; };
                int& got = co_await child(m);
                ++got;
                co_return got;
            };
            int& got = test::run(f(n));
            CHECK(&got == &n);
            CHECK(n == 1);
        }
        SUBCASE("a reference to const") {
            const std::string s = "text";
            auto f = [](const std::string& r) -> task<const std::string&> { co_return r; };
            CHECK(&test::run(f(s)) == &s);
        }
        SUBCASE("move-only") {
            auto f = []() -> task<std::unique_ptr<int>> {
                auto child = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
                std::unique_ptr<int> p = co_await child();
                ++*p;
                co_return p;
            };
            CHECK(*test::run(f()) == 4);
        }
        SUBCASE("aligned to 64: locals, parameters and results") {
            wide::misplaced = 0;
            {
                auto f = [](wide parameter) -> task<wide> {
                    auto child = [](wide p) -> task<wide> {
                        const wide local(p.value + 1);
                        co_return wide(local.value + 1);
                    };
                    const wide local(co_await child(parameter));
                    co_return wide(local.value + parameter.value);
                };
                CHECK(test::run(f(wide(10))).value == 22);
            }
            CHECK(wide::misplaced == 0);
            CHECK(wide::alive == 0);
        }
        SUBCASE("aligned to 64, as an exception's neighbour") {
            auto f = []() -> task<wide> {
                throw std::domain_error("no value");
                co_return wide(1);
            };
            CHECK_THROWS_AS(test::run(f()), std::domain_error);
            CHECK(wide::alive == 0);
        }
    }

    TEST_CASE("a result is moved along, never copied, and destroyed once") {
        struct no_copy : counted {
            explicit no_copy(int v) : counted(v) {}
            no_copy(no_copy&&) = default;
        };
        counted::alive = 0;
        {
            auto f = []() -> task<no_copy> {
                auto child = []() -> task<no_copy> { co_return no_copy(5); };
                auto value = co_await child();
                co_return value;
            };
            const no_copy value = test::run(f());
            CHECK(value.value == 5);
            CHECK(counted::alive.load() == 1);
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a result is built from whatever it can be built from") {
        auto f = []() -> task<std::string> { co_return "literal"; };
        CHECK(test::run(f()) == "literal");
        auto g = []() -> task<std::pair<int, std::string>> { co_return {1, "one"}; };
        CHECK(test::run(g()).second == "one");
        auto h = []() -> task<std::vector<int>> { co_return std::vector<int>(3, 1); };
        CHECK(test::run(h()).size() == 3);
    }

    TEST_CASE("CPP-16 a result that throws when it is moved fails whoever moves it") {
        auto make = [](bool await_it) -> task<> {
            auto child = []() -> task<throws_on_move> {
                throws_on_move t;
                co_return std::move(t);
            };
            if (await_it)
                co_await child();
        };
        SUBCASE("into the result") { throws_on_move::moves_left = 0; }
        SUBCASE("out of the result") { throws_on_move::moves_left = 1; }
        CHECK_THROWS_AS(test::run(make(true)), std::domain_error);
    }

    TEST_CASE("CPP-05 an exception keeps its dynamic type across nested tasks, joins and threads") {
        auto nested = []() -> task<int> {
            try {
                co_await fail(derived_error(42));
            } catch (const base_error& e) {
                co_return dynamic_cast<const derived_error&>(e).code;
            }
            co_return 0;
        };
        CHECK(test::run(nested()) == 42);

        test::manual_executor ex;
        auto inner = ex.spawn(fail(derived_error(43)));
        auto join = [](magpie::join_handle<> h) -> task<> { co_await std::move(h); };
        auto outer = ex.spawn(join(std::move(inner)));
        int code = 0;
        std::thread waiter([&] {
            try {
                outer.blocking_join();
            } catch (const derived_error& e) {
                code = e.code;
            }
        });
        ex.run_until_idle();
        waiter.join();
        CHECK(code == 43);

        CHECK_THROWS_AS(test::run(fail(std::make_error_code(std::errc::io_error))), std::error_code);
        CHECK_THROWS_AS(test::run(fail(7)), int); // not everything that is thrown is a class
    }

    TEST_CASE("a task that failed lets its parent go on") {
        auto f = []() -> task<int> {
            int failures = 0;
            for (int i = 0; i < 10; ++i) {
                try {
                    co_await fail(std::runtime_error("no"));
                } catch (const std::runtime_error&) {
                    ++failures;
                }
            }
            const int value = co_await twice(failures);
            co_return value;
        };
        CHECK(test::run(f()) == 20);
    }

    TEST_CASE("parameters live in the frame, and are gone before the parent's next line") {
        trace log;
        auto child = [](trace& l, noisy, std::string text) -> task<std::string> {
            const noisy local(l, "local");
            l.add("body");
            co_return text;
        };
        auto parent = [](trace& l, auto c) -> task<> {
            const std::string text = co_await c(l, noisy(l, "parameter"),
                                                "a text that is too long to do without the heap");
            l.add("after");
            CHECK(text == "a text that is too long to do without the heap");
        };
        test::run(parent(log, child));
        CHECK(log.text() == "body local parameter after");
    }

    TEST_CASE("parameters of a task that failed are gone before the parent's handler") {
        trace log;
        auto child = [](trace& l, noisy) -> task<> {
            const noisy local(l, "local");
            throw std::runtime_error("no");
            co_return;
        };
        auto parent = [](trace& l, auto c) -> task<> {
            try {
                co_await c(l, noisy(l, "parameter"));
            } catch (const std::runtime_error&) {
                l.add("handler");
            }
        };
        test::run(parent(log, child));
        CHECK(log.text() == "local parameter handler");
    }

    TEST_CASE("several awaits in one expression") {
        auto f = []() -> task<int> {
            const int sum = co_await twice(1) + co_await twice(co_await twice(2)) * co_await twice(5);
            co_return sum;
        };
        CHECK(test::run(f()) == 2 + 8 * 10);
    }

    TEST_CASE("an exception between two awaits of one expression destroys the first one's value") {
        counted::alive = 0;
        auto f = []() -> task<int> {
            auto make = []() -> task<counted> { co_return counted(1); };
            auto broken = []() -> task<counted> {
                throw std::runtime_error("no");
                co_return counted(2);
            };
            auto sum = [](const counted& a, const counted& b) { return a.value + b.value; };
            const int n = sum(co_await make(), co_await broken());
            co_return n;
        };
        CHECK_THROWS_AS(test::run(f()), std::runtime_error);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a task that was made but not awaited dies with the frame that holds it") {
        counted::alive = 0;
        auto f = []() -> task<> {
            auto child = [](counted) -> task<> { co_return; };
            const task<> never = child(counted(1));
            throw std::runtime_error("no");
            co_return;
        };
        CHECK_THROWS_AS(test::run(f()), std::runtime_error);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a local's destructor that throws at the end takes the place of the value") {
        counted::alive = 0;
        auto f = []() -> task<counted> {
            const test::throws_at_end local("late");
            co_return counted(1);
        };
        CHECK_THROWS_WITH(test::run(f()), "late");
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a parameter's destructor that throws reaches the parent") {
        auto f = []() -> task<std::string> {
            auto child = [](test::throws_at_end) -> task<int> { co_return 1; };
            try {
                co_await child(test::throws_at_end("parameter"));
            } catch (const std::runtime_error& e) {
                co_return e.what();
            }
            co_return "nothing was thrown";
        };
        CHECK(test::run(f()) == "parameter");
    }

    TEST_CASE("a parameter's destructor that throws fails the spawned task") {
        auto f = [](test::throws_at_end) -> task<int> { co_return 1; };
        CHECK_THROWS_WITH(test::run(f(test::throws_at_end("parameter"))), "parameter");
    }

    TEST_CASE("a body may return again after a destructor has taken its first return back") {
        CHECK(test::survives([] {
            auto f = []() -> task<std::string> {
                try {
                    const test::throws_at_end local("at the first return");
                    co_return "a first result that is too long to do without the heap";
                } catch (const std::runtime_error&) {}
                co_return "second";
            };
            return test::run(f()) == "second";
        }));
    }

    TEST_CASE("CPP-01 a long loop of awaits that complete at once takes no stack") {
        constexpr int n = test::scaled(10'000'000);
        int sum = 0;
        test::on_small_stack([&] {
            auto f = [](int times, int& s) -> task<> {
                auto one = []() -> task<int> { co_return 1; };
                for (int i = 0; i < times; ++i)
                    s += co_await one();
            };
            test::run(f(n, sum));
        });
        CHECK(sum == n);
    }

    TEST_CASE("CPP-02 a chain of 1,000,000 tasks takes no stack") {
        constexpr int n = test::scaled(1'000'000);
        struct chain {
            static task<int> ready(int k) {
                if (k == 0)
                    co_return 0;
                const int below = co_await ready(k - 1);
                co_return below + 1;
            }
            static task<int> waiting(int k, magpie::sync::event& e) {
                if (k == 0) {
                    co_await e.wait();
                    co_return 0;
                }
                const int below = co_await waiting(k - 1, e);
                co_return below + 1;
            }
            static task<int> failing(int k) {
                if (k == 0)
                    throw std::runtime_error("bottom");
                const int below = co_await failing(k - 1);
                co_return below + 1;
            }
        };
        SUBCASE("that completes at once") {
            int depth = 0;
            test::on_small_stack([&] { depth = test::run(chain::ready(n)); });
            CHECK(depth == n);
        }
        SUBCASE("that is suspended and resumed") {
            int depth = 0;
            test::on_small_stack([&] {
                test::manual_executor ex;
                magpie::sync::event e;
                auto h = ex.spawn(chain::waiting(n, e));
                ex.run_until_idle();
                e.set();
                ex.run_until_idle();
                depth = h.blocking_join();
            });
            CHECK(depth == n);
        }
        SUBCASE("that fails at the bottom") {
            bool failed = false;
            test::on_small_stack([&] {
                try {
                    test::run(chain::failing(n / 10));
                } catch (const std::runtime_error&) {
                    failed = true;
                }
            });
            CHECK(failed);
        }
    }

    TEST_CASE("CPP-14 a task object is empty once it is awaited, and may die while the body runs") {
        trace log;
        test::manual_executor ex;
        magpie::sync::event e;
        auto body = [](trace& l, magpie::sync::event& ev) -> task<> {
            const noisy local(l, "local");
            co_await ev.wait();
            l.add("body");
        };
        auto t = std::make_unique<task<>>(body(log, e));
        auto parent = [](task<>& child) -> task<> { co_await std::move(child); };
        auto h = ex.spawn(parent(*t));
        ex.run_until_idle();
        CHECK_FALSE(*t);
        t.reset();
        CHECK(log.text().empty());
        e.set();
        ex.run_until_idle();
        CHECK(log.text() == "body local");
        h.blocking_join();
    }

    TEST_CASE("CPP-12 no frame is destroyed while one of its awaiters still suspends") {
        probe::destroyed_inside = false;
        test::manual_executor ex;
        magpie::sync::event e;
        auto f = [](magpie::sync::event& ev) -> task<> {
            auto child = [](magpie::sync::event& v, watcher) -> task<> {
                const watcher local;
                co_await probe(&v);
            };
            co_await child(ev, watcher());
        };
        auto waits = [](magpie::sync::event& ev) -> task<> {
            const watcher local;
            co_await ev.wait();
        };
        auto other = ex.spawn(waits(e));
        ex.run_until_idle();
        auto h = ex.spawn(f(e));
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(other.is_finished());
        CHECK_FALSE(probe::destroyed_inside);
    }
}
