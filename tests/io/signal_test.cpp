#include <magpie/io/signal.hpp>

#include <magpie/io/cancel_on.hpp>

#include <io/src/reactor.hpp>

#include <test/eventually.hpp>
#include <test/io.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <csignal>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

// Signals of the whole process: each test uses its own, or says how many it sends.

namespace {

using namespace std::chrono_literals;
using magpie::io::signals;

/// Sends to this thread: when it returns, the handler has run. (A signal to the process goes to a thread
/// of the system's choice, and ThreadSanitizer keeps it back while that thread sleeps in a futex.)
void send(int signal) { CHECK(::raise(signal) == 0); }

/// Sends to the process. On the main thread, which then takes it itself.
void send_to_process(int signal) { CHECK(::kill(::getpid(), signal) == 0); }

magpie::task<int> next_of(signals& s) { co_return co_await s.next(); }

/// Listens, says so, and gives the first signal.
magpie::task<int> first_of(int signal, std::atomic<int>& listening) {
    signals s{signal};
    ++listening;
    co_return co_await s.next();
}

/// A composite that drops its branch, a wait for a signal, in the turn in which that has ended.
class ended_and_dropped : public magpie::operation<ended_and_dropped>,
                          private magpie::detail::branch_owner {
public:
    explicit ended_and_dropped(signals& s) : branch_(std::in_place, s.next()) {}
    ended_and_dropped(ended_and_dropped&&) = default;

    bool try_complete() noexcept {
        ended_ = branch_.start(*where(), *this);
        branch_.discard();
        return true;
    }
    bool publish() const noexcept { return false; }
    void await_resume() const { CHECK(ended_); }

private:
    magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::quiet; }
    std::coroutine_handle<> branch_ended(magpie::branch&) noexcept override {
        return std::noop_coroutine();
    }
    std::coroutine_handle<> branch_gone(magpie::branch&) noexcept override {
        return std::noop_coroutine();
    }

    magpie::detail::operation_branch<magpie::io::next_signal_operation> branch_;
    bool ended_ = false;
};

std::atomic<int> earlier_handler{0};

template <class F>
std::string complaint(F f) {
    try {
        f();
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "";
}

} // namespace

TEST_SUITE("io.signal") {
    TEST_CASE("a task waits for a signal, and is told which one it was") {
        test::run_on_each_layout([]() -> magpie::task<> {
            signals s{SIGUSR1, SIGUSR2};
            auto waiting = magpie::spawn(next_of(s));
            co_await test::settle();
            CHECK_FALSE(waiting.is_finished());
            send(SIGUSR2);
            const int got = co_await waiting;
            CHECK(got == SIGUSR2);
        });
    }

    TEST_CASE("signals come through the portable reactor as well") {
        magpie::io::detail::use_portable_reactor(true);
        test::run_on_each_layout([]() -> magpie::task<> {
            signals s{SIGUSR1, SIGUSR2};
            for (const int signal : {SIGUSR1, SIGUSR2, SIGUSR1}) {
                auto waiting = magpie::spawn(next_of(s));
                co_await test::settle();
                send(signal);
                const int got = co_await waiting;
                CHECK(got == signal);
            }
        });
        magpie::io::detail::use_portable_reactor(false);
    }

    TEST_CASE("what comes before the wait is kept, each number once") {
        test::run_on_one_thread([]() -> magpie::task<> {
            signals s{SIGUSR1, SIGUSR2};
            CHECK_FALSE(s.try_next());
            send(SIGUSR2);
            send(SIGUSR1);
            send(SIGUSR1);
            const int first = co_await s.next();
            const int second = co_await s.next();
            CHECK(first == SIGUSR1);
            CHECK(second == SIGUSR2);
            CHECK_FALSE(s.try_next());
            send(SIGUSR1);
            CHECK(s.try_next() == SIGUSR1);
        }());
    }

    TEST_CASE("PROC-SIG-09 two listeners of one signal both get it") {
        test::run_on_each_layout([]() -> magpie::task<> {
            signals a{SIGUSR1};
            signals b{SIGUSR1, SIGUSR2};
            auto first = magpie::spawn(next_of(a));
            auto second = magpie::spawn(next_of(b));
            co_await test::settle();
            send(SIGUSR1);
            const int in_a = co_await first;
            const int in_b = co_await second;
            CHECK(in_a == SIGUSR1);
            CHECK(in_b == SIGUSR1);
        });
    }

    TEST_CASE("PROC-SIG-10 a second delivery is seen after the first was consumed") {
        test::run_on_each_layout([]() -> magpie::task<> {
            signals s{SIGUSR1};
            for (int i = 0; i < 100; ++i) {
                send(SIGUSR1);
                const int got = co_await s.next();
                CHECK(got == SIGUSR1);
                CHECK_FALSE(s.try_next());
            }
        });
    }

    TEST_CASE("PROC-SIG-11 dropping one listener does not deafen the others") {
        test::run_on_one_thread([]() -> magpie::task<> {
            std::optional<signals> gone(std::in_place, std::initializer_list<int>{SIGUSR1});
            signals stays{SIGUSR1};
            gone.reset();
            send(SIGUSR1);
            const int got = co_await stays.next();
            CHECK(got == SIGUSR1);
        }());
    }

    TEST_CASE("PROC-SIG-12 a listener made after another was dropped works") {
        test::run_on_each_layout([]() -> magpie::task<> {
            for (int i = 0; i < 20; ++i) {
                signals s{SIGUSR1};
                send(SIGUSR1);
                const int got = co_await s.next();
                CHECK(got == SIGUSR1);
            }
            signals fresh{SIGUSR1};
            CHECK_FALSE(fresh.try_next()); // nothing of the earlier ones is left
        });
    }

    TEST_CASE("PROC-SIG-13 listeners survive another runtime's end") {
        std::atomic<int> listening{0};
        const magpie::runtime stays = test::multi_thread(1).build();
        std::optional<magpie::runtime> ends(test::multi_thread(1).build());
        auto here = stays.spawn(first_of(SIGUSR1, listening));
        auto there = ends->spawn(first_of(SIGUSR1, listening));
        REQUIRE(test::eventually([&] { return listening == 2; }));
        ends.reset();
        CHECK(test::ends_cancelled(there));
        send_to_process(SIGUSR1);
        REQUIRE(test::ends(here));
        CHECK(here.blocking_join() == SIGUSR1);
    }

    TEST_CASE("PROC-SIG-14 several runtimes each get the signal") {
        std::vector<magpie::runtime> all;
        std::vector<magpie::join_handle<int>> waiting;
        std::atomic<int> listening{0};
        for (int i = 0; i < 5; ++i) {
            all.push_back(test::multi_thread(1).build());
            for (int k = 0; k < 5; ++k) // more than one block of the handler's table
                waiting.push_back(all.back().spawn(first_of(SIGUSR1, listening)));
        }
        REQUIRE(test::eventually([&] { return listening == 25; }));
        send_to_process(SIGUSR1);
        for (auto& w : waiting) {
            REQUIRE(test::ends(w));
            CHECK(w.blocking_join() == SIGUSR1);
        }
    }

    // The only test with SIGINT: doctest puts its own handler back when a test has ended.
    TEST_CASE("PROC-SIG-15 ctrl_c ends on SIGINT") {
        std::signal(SIGINT, SIG_DFL); // not doctest's, which would be called as well
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pressed = magpie::io::ctrl_c();
            send(SIGINT);
            co_await pressed;
            auto again = co_await magpie::timeout(0ms, magpie::io::ctrl_c());
            CHECK_FALSE(again);
            auto third = magpie::io::ctrl_c();
            send(SIGINT);
            auto outcome = co_await magpie::as_result(std::move(third));
            CHECK(outcome.has_value());
        });
    }

    TEST_CASE("PROC-SIG-16 real-time signals can be listened to") {
        test::run_on_one_thread([]() -> magpie::task<> {
            const std::array which{SIGRTMIN, SIGRTMAX};
            signals s{std::span<const int>(which)};
            for (const int signal : which) {
                send(signal);
                const int got = co_await s.next();
                CHECK(got == signal);
            }
        }());
    }

    TEST_CASE("PROC-SIG-17 without a runtime, or one with I/O, it is diagnosed") {
        CHECK_THROWS_WITH_AS(signals{SIGUSR1}, doctest::Contains("signals"), std::logic_error);
        CHECK_THROWS_WITH_AS(static_cast<void>(magpie::io::ctrl_c()), doctest::Contains("ctrl_c"),
                             std::logic_error);
        const magpie::runtime rt = test::current_thread().io(false).build();
        const auto in = rt.enter();
        CHECK_THROWS_AS(signals{SIGUSR1}, std::logic_error);
    }

    TEST_CASE("signals that cannot be listened to are refused, with the reason") {
        const magpie::runtime rt = test::current_thread().build();
        const auto in = rt.enter();
        for (const int signal : {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
            const std::string text = complaint([&] { const signals s{signal}; });
            CAPTURE(text);
            CHECK(text.find("(" + std::to_string(signal) + ") cannot be listened to: ") !=
                  std::string::npos);
        }
        CHECK(complaint([] { const signals s{32}; }).find("C library") != std::string::npos);
        for (const int signal : {0, -1, 65})
            CHECK(complaint([&] { const signals s{signal}; }).find("is no signal") !=
                  std::string::npos);
        CHECK_THROWS_AS(signals(std::span<const int>()), std::invalid_argument);

        // A bad one among them: nothing is installed for the good ones.
        struct sigaction before{};
        struct sigaction after{};
        REQUIRE(::sigaction(SIGURG, nullptr, &before) == 0);
        CHECK_FALSE(complaint([] { const signals s{SIGURG, SIGKILL}; }).empty());
        REQUIRE(::sigaction(SIGURG, nullptr, &after) == 0);
        const bool same = after.sa_handler == before.sa_handler;
        CHECK(same);
    }

    TEST_CASE("a handler that was there before is still called, and stays when nobody listens") {
        earlier_handler = 0;
        struct sigaction a{};
        a.sa_handler = [](int) { ++earlier_handler; };
        REQUIRE(::sigaction(SIGWINCH, &a, nullptr) == 0);
        test::run_on_one_thread([]() -> magpie::task<> {
            signals s{SIGWINCH};
            send(SIGWINCH);
            const int got = co_await s.next();
            CHECK(got == SIGWINCH);
        }());
        REQUIRE(test::eventually([] { return earlier_handler == 1; }));
        send(SIGWINCH);
        CHECK(test::eventually([] { return earlier_handler == 2; }));
    }

    TEST_CASE("a signal that ends the process by itself does nothing once it was listened to") {
        test::run_on_one_thread([]() -> magpie::task<> {
            { const signals s{SIGHUP}; }
            send(SIGHUP);
            co_await test::settle();
        }());
    }

    TEST_CASE("a dropped wait has taken no signal") {
        test::run_on_each_layout([]() -> magpie::task<> {
            signals s{SIGUSR1};
            auto waiting = magpie::spawn(next_of(s));
            co_await test::settle();
            waiting.abort();
            auto outcome = co_await magpie::as_result(waiting);
            CHECK(outcome.has_error());
            auto none = co_await magpie::timeout(0ms, s.next());
            CHECK_FALSE(none);
            send(SIGUSR1);
            const int got = co_await s.next();
            CHECK(got == SIGUSR1);
        });
    }

    TEST_CASE("a wait that has taken a signal gives it back when nobody hears of it") {
        test::run_on_one_thread([]() -> magpie::task<> {
            signals s{SIGUSR1, SIGUSR2};
            send(SIGUSR1);
            send(SIGUSR2);
            const int first = co_await s.next(); // from here on the next wait ends at once
            CHECK(first == SIGUSR1);
            ended_and_dropped wait(s);
            co_await wait;
            CHECK(s.try_next() == SIGUSR2);
        }());
    }

    TEST_CASE("when a runtime is shut down, waits of its listeners fail elsewhere as well") {
        std::optional<signals> s;
        {
            const magpie::runtime rt = test::multi_thread(1).build();
            rt.block_on([](std::optional<signals>& to) -> magpie::task<> {
                to.emplace(std::initializer_list<int>{SIGUSR1});
                co_return;
            }(s));
        }
        test::run_on_one_thread([](signals& orphan) -> magpie::task<> {
            const auto error = co_await test::error_of(orphan.next());
            CHECK(error == magpie::io::io_error::runtime_gone);
        }(*s));
    }

    TEST_CASE("listeners that come and go while signals come leave no descriptor") {
        const std::size_t before = test::open_descriptors();
        {
            std::atomic<bool> stop{false};
            const magpie::runtime rt = test::multi_thread(2).build();
            {
                const auto in = rt.enter();
                const signals first{SIGUSR1}; // from here on it ends nobody
            }
            std::thread sender([&] {
                while (!stop)
                    send(SIGUSR1);
            });
            std::vector<magpie::join_handle<>> all;
            for (int i = 0; i < 4; ++i)
                all.push_back(rt.spawn([]() -> magpie::task<> {
                    for (int n = 0; n < 200; ++n) {
                        signals s{SIGUSR1};
                        const int got = co_await s.next();
                        CHECK(got == SIGUSR1);
                    }
                }()));
            for (auto& h : all)
                CHECK(test::ends(h));
            stop = true;
            sender.join();
        }
        CHECK(test::are_open_again(before));
    }

    TEST_CASE("cancel_on cancels a token when a signal comes, and says which it was") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const magpie::cancellation_token stop;
            const magpie::cancellation_token below = stop.child_token();
            auto watch = magpie::spawn(magpie::io::cancel_on(signals{SIGUSR1, SIGUSR2}, stop,
                                                             magpie::io::second_signal::is_ignored));
            co_await test::settle();
            CHECK_FALSE(stop.is_cancelled());
            send(SIGUSR2);
            co_await below.cancelled();
            REQUIRE(below.reason() != nullptr);
            CHECK(below.reason()->text() == "SIGUSR2");
            const int first = co_await watch;
            CHECK(first == SIGUSR2);
            send(SIGUSR1); // nobody listens any more: it does nothing
        });
    }

    TEST_CASE(
        "cancel_on hears what came since the signals were listened to, and is dropped like any task") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const magpie::cancellation_token stop;
            signals early{SIGUSR1};
            send(SIGUSR1);
            auto watch = magpie::spawn(magpie::io::cancel_on(std::move(early), stop));
            co_await stop.cancelled();
            CHECK_FALSE(watch.is_finished()); // it waits for the second signal
            watch.abort();
            const auto outcome = co_await magpie::as_result(watch);
            CHECK(outcome.has_error());
        });
    }

    TEST_CASE("the second signal of cancel_on ends the process as if nobody listened") {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            ::alarm(60);
            magpie::run([]() -> magpie::task<> {
                const magpie::cancellation_token stop;
                magpie::spawn(magpie::io::cancel_on(signals{SIGHUP}, stop)).detach();
                co_await test::settle();
                send(SIGHUP);
                co_await stop.cancelled();
                send(SIGHUP);
                co_await magpie::sleep_for(1h);
            }());
            ::_exit(0);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == SIGHUP);
    }
}
