// Threads that cannot be made: while a runtime is built, and where its pool would grow.

#include "memory.hpp"
#include "threads.hpp"

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/io.hpp>
#include <test/layouts.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using test::live_threads;
using test::memory_in_use;
using test::refused_thread;

namespace {

constexpr std::size_t all = std::numeric_limits<std::size_t>::max() / 2;

const auto no_thread = std::make_error_code(std::errc::resource_unavailable_try_again);

/// What `f` throws that is a system_error.
template <class F>
std::error_code error_of(F f) {
    try {
        f();
    } catch (const std::system_error& e) {
        return e.code();
    }
    return {};
}

task<int> number(int n) {
    co_await magpie::yield_now();
    co_return n;
}

/// A gate for blocking calls.
class gate {
public:
    void open() {
        open_.store(true, std::memory_order_release); // pairs with pass()
        open_.notify_all();
    }
    void pass() const { open_.wait(false, std::memory_order_acquire); }

private:
    std::atomic<bool> open_{false};
};

} // namespace

TEST_SUITE("fault.threads") {
    TEST_CASE("no thread x each worker of a runtime that is built: the error, and nothing is left") {
        const test::muted_log quiet; // a report of who gets no core would take memory that stays
        for (magpie::runtime_builder b :
             {test::multi_thread(4), test::multi_thread(4).thread_stack_size(256 * 1024),
              test::thread_per_core(4), test::thread_per_core(4).thread_stack_size(256 * 1024)}) {
            CHECK(b.build().block_on(number(1)) == 1);
            const std::size_t threads = live_threads();
            const std::size_t descriptors = test::open_descriptors();
            for (std::size_t n = 1; n <= 4; ++n) {
                CAPTURE(n);
                const auto memory = memory_in_use();
                refused_thread at(n);
                CHECK(error_of([&] { auto rt = b.build(); }) == no_thread);
                CHECK(at.stop() == 1);
                CHECK(memory_in_use() == memory);
                CHECK(test::open_descriptors() == descriptors);
                CHECK(live_threads() == threads);
            }
            CHECK(b.build().block_on(number(2)) == 2);
        }
    }

    TEST_CASE("no thread x spawn_blocking: the error if there is none at all, and later it runs") {
        test::on_each_layout([](magpie::runtime_builder b) {
            const magpie::runtime rt = b.build();
            rt.block_on([]() -> task<> {
                {
                    const refused_thread none(1, all);
                    CHECK(error_of([] { magpie::spawn_blocking([] { return 1; }).detach(); }) ==
                          no_thread);
                }
                const int n = co_await magpie::spawn_blocking([] { return 2; });
                CHECK(n == 2);
            }());
        });
    }

    TEST_CASE("no thread x spawn_blocking where there are some: it waits for one of them") {
        test::on_each_layout([](magpie::runtime_builder b) {
            gate g;
            const magpie::runtime rt = b.build();
            rt.block_on([](gate& wait) -> task<> {
                std::atomic<bool> begun{false};
                auto first = magpie::spawn_blocking([&] {
                    begun.store(true, std::memory_order_relaxed); // a hint
                    wait.pass();
                });
                CHECK(test::eventually([&] { return begun.load(std::memory_order_relaxed); }));
                std::vector<magpie::join_handle<int>> others;
                {
                    refused_thread none(1, all);
                    for (int i = 0; i < 10; ++i)
                        others.push_back(magpie::spawn_blocking([i] { return i; }));
                    CHECK(none.stop() == 10);
                }
                CHECK(magpie::runtime_handle::current().metrics().blocking_depth == 10);
                wait.open();
                co_await first;
                int sum = 0;
                for (auto& h : others)
                    sum += co_await h;
                CHECK(sum == 45);
            }(g));
        });
    }

    TEST_CASE("no thread x a pool that grows, each in turn: every call runs, or says so") {
        for (std::size_t n = 1; n <= 4; ++n) {
            CAPTURE(n);
            std::atomic<int> ran{0};
            int refused = 0;
            {
                const magpie::runtime rt = test::multi_thread(1).max_blocking_threads(4).build();
                const auto in = rt.enter();
                refused_thread at(n);
                for (int i = 0; i < 20; ++i) {
                    try {
                        magpie::spawn_blocking([&] {
                            ran.fetch_add(1, std::memory_order_relaxed);
                        }).detach();
                    } catch (const std::system_error&) {
                        ++refused;
                    }
                }
                CHECK(test::eventually([&] { return ran + refused == 20; }));
                CHECK(refused <= 1);
            }
            CHECK(ran + refused == 20);
        }
    }

    TEST_CASE("no thread x block_in_place: the error; the worker and a paused clock go on") {
        const magpie::runtime rt = test::multi_thread(2).paused_clock(true).build();
        rt.block_on([]() -> task<> {
            {
                const refused_thread none(1, all);
                CHECK(error_of([] { magpie::block_in_place([] {}); }) == no_thread);
            }
            co_await magpie::sleep_for(1h);
            const int n = magpie::block_in_place([] { return 3; });
            CHECK(n == 3);
            co_await magpie::sleep_for(1h);
        }());
    }

    TEST_CASE("no thread x resolve: the error, and later it finds the name") {
        test::run_on_each_layout([]() -> task<> {
            {
                const refused_thread none(1, all);
                bool said = false;
                try {
                    static_cast<void>(co_await magpie::io::resolve("localhost:80"));
                } catch (const std::system_error& e) {
                    said = e.code() == no_thread;
                }
                CHECK(said);
            }
            const auto found = co_await magpie::io::resolve("localhost:80");
            CHECK(!found.empty());
        });
    }
}
