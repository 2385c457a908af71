// A process that is forked from one with a runtime: it has the runtime's memory, and none of its threads.

#include <magpie/magpie.hpp>

#include <test/in_child.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>

using namespace std::chrono_literals;
using magpie::runtime;
using magpie::task;

namespace {

task<int> number(int n) {
    co_await magpie::yield_now();
    co_return n;
}

/// Whether `f` throws a logic_error that speaks of the fork.
template <class F>
bool is_refused(F f) {
    try {
        f();
    } catch (const std::logic_error& e) {
        return std::string_view(e.what()).find("forked") != std::string_view::npos;
    }
    return false;
}

/// Whether the child that does `f` is told why, and terminated.
template <class F>
bool is_terminated(F f) {
    // What it logs goes through a pipe.
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    static int to = -1;
    to = ends[1];
    const int status = test::status_of([&] {
        magpie::set_log_function([](magpie::log_level, std::string_view text) noexcept {
            static_cast<void>(!::write(to, text.data(), text.size()));
        });
        f();
        return true;
    });
    ::close(ends[1]);
    std::string said(4096, ' ');
    const ssize_t n = ::read(ends[0], said.data(), said.size());
    ::close(ends[0]);
    said.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return status == -1 && said.find("forked") != std::string::npos;
}

} // namespace

TEST_SUITE("scheduler.forked") {
    TEST_CASE("in the child every use of the parent's runtime is refused, and nothing waits for ever") {
        test::on_each_layout([](const magpie::runtime_builder& b) {
            runtime rt = b.build();
            auto waits = []() -> task<> { co_await magpie::sleep_for(1h); };
            auto h = rt.spawn(waits());
            CHECK(rt.block_on(number(1)) == 1);
            const auto handle = rt.handle();
            const auto uses = [&](auto use) { return test::survives([&] { return is_refused(use); }); };
            CHECK(uses([&] { rt.block_on(number(1)); }));
            CHECK(uses([&] { rt.spawn(number(1)).detach(); }));
            CHECK(uses([&] { rt.spawn("named", number(1)).detach(); }));
            CHECK(uses([&] { handle.spawn([] { return number(1); }).detach(); }));
            CHECK(uses([&] { magpie::spawn_on(handle, 0, number(1)).detach(); }));
            CHECK(uses([&] { auto in = rt.enter(); }));
            CHECK(uses([&] { static_cast<void>(rt.metrics()); }));
            CHECK(uses([&] { rt.shutdown_timeout(1s); }));
            CHECK(uses([&] { h.blocking_join(); }));
            h.abort();
            CHECK(rt.block_on(number(2)) == 2); // the parent goes on
        });
    }

    TEST_CASE("in the child of a thread that has entered a runtime, it is in none") {
        test::on_each_layout([](const magpie::runtime_builder& b) {
            const runtime rt = b.build();
            const auto in = rt.enter();
            CHECK(test::survives([] {
                return is_refused([] { magpie::spawn(number(1)).detach(); }) &&
                       is_refused([] { magpie::spawn_blocking([] {}).detach(); }) &&
                       is_refused([] { static_cast<void>(magpie::runtime_handle::current()); });
            }));
            magpie::spawn(number(1)).detach();
        });
    }

    TEST_CASE("in the child of a task, it is no task: what spawns is refused") {
        test::on_each_layout([](const magpie::runtime_builder& b) {
            const runtime rt = b.build();
            rt.block_on([]() -> task<> {
                CHECK(test::survives([] {
                    return is_refused([] { magpie::spawn(number(1)).detach(); }) &&
                           is_refused([] { magpie::spawn_blocking([] {}).detach(); }) &&
                           is_refused([] { magpie::pause_clock(); }) && !magpie::this_task::id();
                }));
                const int n = co_await magpie::spawn(number(3)); // the parent goes on
                CHECK(n == 3);
            }());
        });
    }

    TEST_CASE("in the child, what cannot throw terminates it, with the same sentence") {
        test::on_each_layout([](const magpie::runtime_builder& b) {
            std::optional<runtime> rt(b.build());
            auto waits = []() -> task<> { co_await magpie::sleep_for(1h); };
            auto h = rt->spawn(waits());
            CHECK(rt->block_on(number(1)) == 1);
            CHECK(is_terminated([&] { rt.reset(); }));
            CHECK(is_terminated([&] { rt->shutdown_background(); }));
            CHECK(is_terminated([&] { h.abort(); }));
        });
    }

    TEST_CASE("a task that forks and goes on in the child is terminated there when it suspends") {
        test::on_each_layout([](const magpie::runtime_builder& b) {
            // The whole in a child, for its task goes on in a child of that one.
            CHECK(test::survives([&] {
                const runtime rt = b.build();
                return rt.block_on([]() -> task<bool> {
                    magpie::set_log_function(nullptr);
                    const pid_t child = ::fork();
                    if (child == 0) {
                        ::alarm(30);
                        co_await magpie::yield_now();
                        _exit(0);
                    }
                    int status = 0;
                    ::waitpid(child, &status, 0);
                    co_return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
                }());
            }));
        });
    }

    TEST_CASE("a child may have a runtime of its own, if the parent had none") {
        { const runtime gone; }
        CHECK(test::survives([] {
            const runtime rt = test::multi_thread(2).build();
            auto h = rt.spawn(number(4));
            return rt.block_on(number(3)) == 3 && h.blocking_join() == 4;
        }));
    }

    TEST_CASE("a child may exec") {
        const runtime rt = test::multi_thread(2).build();
        CHECK(test::survives([] {
            ::execl("/bin/true", "true", nullptr);
            return false;
        }));
    }
}
