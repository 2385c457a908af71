// Signals that interrupt every sleep and every system call: nothing ends early, nothing is lost.

#include "system_calls.hpp"

#include <test/io.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <dirent.h>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <utility>

using namespace std::chrono_literals;
using magpie::task;
using test::failing;
using test::system_call;

namespace {

std::atomic<long> caught{0};

/// Sends a signal that interrupts system calls to each thread of the process, again and again.
class storm {
public:
    storm() {
        struct sigaction a{};
        a.sa_handler = [](int) { caught.fetch_add(1, std::memory_order_relaxed); };
        ::sigaction(SIGURG, &a, &before_); // no SA_RESTART
        thread_ = std::thread([this] { blow(); });
    }
    storm(const storm&) = delete;
    ~storm() {
        over_.store(true, std::memory_order_relaxed);
        thread_.join();
        ::sigaction(SIGURG, &before_, nullptr);
    }

private:
    void blow() const {
        const pid_t self = static_cast<pid_t>(::syscall(SYS_gettid));
        while (!over_.load(std::memory_order_relaxed)) {
            DIR* const d = ::opendir("/proc/self/task");
            while (const dirent* const e = ::readdir(d))
                if (const pid_t thread = std::atoi(e->d_name); thread != 0 && thread != self)
                    ::syscall(SYS_tgkill, ::getpid(), thread, SIGURG);
            ::closedir(d);
            std::this_thread::yield();
        }
    }

    struct sigaction before_{};
    std::atomic<bool> over_{false};
    std::thread thread_;
};

task<int> sleeps(int rounds) {
    int early = 0;
    for (int i = 0; i < rounds; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        co_await magpie::sleep_for(1ms);
        early += std::chrono::steady_clock::now() - begin < 1ms ? 1 : 0;
    }
    co_return early;
}

task<int> calls(int rounds) {
    int sum = 0;
    for (int i = 0; i < rounds; ++i)
        sum += co_await magpie::spawn_blocking([] {
            std::this_thread::yield();
            return 1;
        });
    co_return sum;
}

task<> echoes(int rounds) {
    auto pair = co_await test::connected();
    auto answer = [](magpie::io::tcp_stream& s, int n) -> task<> {
        std::array<std::byte, 4> four;
        for (int i = 0; i < n; ++i) {
            co_await s.read_exact(four);
            co_await s.write_all(four);
        }
    };
    auto h = magpie::spawn(answer(pair.there, rounds));
    for (int i = 0; i < rounds; ++i) {
        co_await pair.here.write_all(test::bytes("ping"));
        const std::string text = co_await test::read_text(pair.here, 4);
        CHECK(text == "ping");
    }
    co_await h;
}

task<int> passes(int rounds) {
    auto [tx, rx] = magpie::sync::mpsc::channel<int>(1);
    auto send = [](magpie::sync::mpsc::sender<int> to, int n) -> task<> {
        for (int i = 0; i < n; ++i) {
            const auto r = co_await to.send(i);
            CHECK(r);
        }
    };
    auto h = magpie::spawn(send(std::move(tx), rounds));
    int n = 0;
    for (;;) {
        const auto next = co_await rx.recv();
        if (!next)
            break;
        ++n;
    }
    co_await h;
    co_return n;
}

} // namespace

TEST_SUITE("fault.signals") {
    TEST_CASE("a storm of signals x timers, blocking calls, sockets, channels: all as without it") {
        test::on_each_layout([](const magpie::runtime_builder& b) {
            const storm blows;
            const magpie::runtime rt = b.build();
            const int rounds = test::sanitized ? 20 : 100;
            auto early = rt.spawn(sleeps(rounds / 2));
            auto ran = rt.spawn(calls(rounds));
            auto passed = rt.spawn(passes(rounds));
            rt.block_on(echoes(rounds));
            auto join = [](magpie::join_handle<int> h) -> task<int> { co_return co_await h; };
            CHECK(rt.block_on(join(std::move(early))) == 0);
            CHECK(rt.block_on(join(std::move(ran))) == rounds);
            CHECK(rt.block_on(join(std::move(passed))) == rounds);
            // The thread that sends them may have had no core so far.
            CHECK(test::eventually([] { return caught > 0; }));
        });
    }

    TEST_CASE("a storm of signals x runtimes that are made and destroyed") {
        const storm blows;
        for (int i = 0; i < test::scaled(100) + 2; ++i)
            test::on_each_layout([](const magpie::runtime_builder& b) {
                const magpie::runtime rt = b.build();
                auto h = rt.spawn(sleeps(1000));
                CHECK(rt.block_on(calls(2)) == 2);
            });
    }

    TEST_CASE("EINTR, many times in a row x every sleep of a driver and of the watch: goes on") {
        test::run_on_each_layout([]() -> task<> {
            const failing often(system_call::wait, EINTR, 200);
            co_await echoes(10);
            const int early = co_await sleeps(5);
            CHECK(early == 0);
        });
    }
}
