#include <magpie/scheduler/builder.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>

#include <scheduler/src/cpu_count.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <pthread.h>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;

namespace {

std::string complaint_of(const magpie::runtime_builder& b) {
    try {
        const runtime rt = b.build();
    } catch (const std::invalid_argument& x) {
        return x.what();
    }
    return {};
}

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

std::string thread_name() {
    std::array<char, 16> name{};
    pthread_getname_np(pthread_self(), name.data(), name.size());
    return name.data();
}

} // namespace

TEST_SUITE("scheduler.builder") {
    TEST_CASE(
        "RT-LIFE-21 TASK-BLOCK-08 each bad setting is refused, with its name and the caller's place") {
        using builder = magpie::runtime_builder;
        const auto refuses = [](const builder& b, std::string_view field) {
            const std::string text = complaint_of(b);
            CAPTURE(text);
            CAPTURE(field);
            CHECK(has(text, field));
            CHECK(has(text, "builder_test.cpp:"));
        };
        refuses(builder().worker_threads(0), "worker_threads");
        refuses(builder().worker_threads(4097), "worker_threads");
        refuses(builder().name(""), "name");
        refuses(builder().name("  "), "name");
        refuses(builder().thread_name(""), "thread_name");
        refuses(builder().thread_name("thirteen chars"), "thread_name");
        refuses(builder().thread_stack_size(0), "thread_stack_size");
        refuses(builder().thread_stack_size(65535), "thread_stack_size");
        refuses(builder().max_blocking_threads(0), "max_blocking_threads");
        refuses(builder().max_blocking_threads(65537), "max_blocking_threads");
        refuses(builder().thread_keep_alive(0s), "thread_keep_alive");
        refuses(builder().thread_keep_alive(-1s), "thread_keep_alive");
        refuses(builder().global_queue_interval(0), "global_queue_interval");
        refuses(builder().event_interval(0), "event_interval");
        refuses(builder().budget(0), "budget");
        refuses(builder().stuck_limit(0s), "stuck_limit");
        refuses(builder().affinity({100'000}), "affinity");
    }

    TEST_CASE("RT-LIFE-21 one error names all that is wrong") {
        const std::string text = complaint_of(
            magpie::runtime_builder().worker_threads(0).budget(0).name(" "));
        CHECK(has(text, "worker_threads"));
        CHECK(has(text, "budget"));
        CHECK(has(text, "name"));
        CHECK_FALSE(has(text, "event_interval"));
    }

    TEST_CASE("the limits themselves are accepted") {
        const runtime rt = test::multi_thread(1)
                               .max_blocking_threads(1)
                               .thread_keep_alive(1ns)
                               .global_queue_interval(1)
                               .event_interval(1)
                               .budget(1)
                               .stuck_limit(1ns)
                               .thread_stack_size(64 * 1024)
                               .thread_name("a")
                               .name("b")
                               .build();
        auto f = []() -> task<int> {
            for (int i = 0; i < 10; ++i)
                co_await magpie::consume_budget();
            co_return co_await magpie::spawn_blocking([] { return 1; });
        };
        CHECK(rt.block_on(f()) == 1);
    }

    TEST_CASE("a builder may be used again, and changed in between") {
        magpie::runtime_builder b;
        b.worker_threads(1);
        const runtime one = b.build();
        b.worker_threads(2).name("two");
        const runtime two = b.build();
        CHECK(one.worker_threads() == 1);
        CHECK(one.name().empty());
        CHECK(two.worker_threads() == 2);
        CHECK(two.layout() == magpie::layout::multi_thread);
    }

    TEST_CASE("without a number there are as many workers as the process may use") {
        cpu_set_t set;
        CPU_ZERO(&set);
        sched_getaffinity(0, sizeof set, &set);
        const auto usable = magpie::detail::usable_cpus();
        CHECK(usable >= 1);
        CHECK(usable <= static_cast<std::size_t>(CPU_COUNT(&set)));
        CHECK(runtime().worker_threads() == usable);
        CHECK(test::current_thread().worker_threads(8).build().worker_threads() == 1);
    }

    TEST_CASE("threads are called what the builder says, with a number") {
        const runtime rt = test::multi_thread(2).thread_name("twelve chars").build();
        auto f = []() -> task<std::string> { co_return thread_name(); };
        CHECK(has(rt.block_on(f()), "twelve chars-"));
        const auto in = rt.enter();
        CHECK(
            has(magpie::spawn_blocking([] { return thread_name(); }).blocking_join(), "twelve chars-"));
    }

    TEST_CASE("threads have the stack that the builder says, and the process's default is as it was") {
        const auto stack_of_this_thread = [] {
            pthread_attr_t a;
            pthread_getattr_np(pthread_self(), &a);
            std::size_t size = 0;
            pthread_attr_getstacksize(&a, &size);
            pthread_attr_destroy(&a);
            return size;
        };
        std::size_t before = 0;
        std::thread([&] { before = stack_of_this_thread(); }).join();
        const runtime rt = test::multi_thread(1).thread_stack_size(256 * 1024).build();
        auto f = [](auto size) -> task<std::size_t> { co_return size(); };
        const std::size_t worker = rt.block_on(f(stack_of_this_thread));
        CHECK(worker >= 256 * 1024);
        CHECK(worker <= 1024 * 1024); // glibc may give a stack that was used before, and is larger
        CHECK(worker < before);
        std::size_t after = 0;
        std::thread([&] { after = stack_of_this_thread(); }).join();
        CHECK(after == before);
    }

    TEST_CASE("workers are bound to the processors of affinity, in turn") {
        cpu_set_t mine;
        CPU_ZERO(&mine);
        sched_getaffinity(0, sizeof mine, &mine);
        std::size_t first = 0;
        while (!CPU_ISSET(first, &mine))
            ++first;
        const runtime rt = test::multi_thread(2).affinity({first}).build();
        auto f = []() -> task<cpu_set_t> {
            cpu_set_t set;
            CPU_ZERO(&set);
            sched_getaffinity(0, sizeof set, &set);
            co_return set;
        };
        const cpu_set_t set = rt.block_on(f());
        CHECK(CPU_COUNT(&set) == 1);
        CHECK(CPU_ISSET(first, &set));
    }

    TEST_CASE("CPP-26 more than 64 workers work") {
        const runtime rt = test::multi_thread(80).build();
        CHECK(rt.worker_threads() == 80);
        auto f = []() -> task<int> {
            co_await magpie::yield_now();
            co_return 1;
        };
        auto main = [](auto g) -> task<int> {
            int sum = 0;
            std::vector<join_handle<int>> all;
            for (int i = 0; i < 5000; ++i)
                all.push_back(magpie::spawn(g()));
            for (auto& h : all)
                sum += co_await h;
            co_return sum;
        };
        CHECK(rt.block_on(main(f)) == 5000);
        CHECK(rt.metrics().workers.size() == 80);
    }
}
