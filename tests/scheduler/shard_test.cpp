#include <magpie/scheduler/shard.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::spawn_on;
using magpie::submit_to;
using magpie::task;
using magpie::this_shard;

namespace {

task<std::size_t> where() {
    co_await magpie::yield_now();
    co_return this_shard();
}

/// Waits until it is cancelled, and says so.
class tells_of_cancel : public magpie::operation<tells_of_cancel> {
public:
    static constexpr magpie::cancel_safety safety = magpie::cancel_safety::safe;

    explicit tells_of_cancel(std::atomic<bool>& cancelled) noexcept : cancelled_(&cancelled) {}
    bool try_complete() noexcept { return false; }
    bool publish() noexcept { return true; }
    void await_resume() noexcept {}

private:
    magpie::cancel_answer cancel() noexcept override {
        *cancelled_ = true;
        return magpie::cancel_answer::quiet;
    }

    std::atomic<bool>* cancelled_;
};

/// A function of that many bytes, and a value of as many.
template <std::size_t Size>
task<bool> crosses() {
    std::array<unsigned char, Size> bytes{};
    for (std::size_t i = 0; i < Size; ++i)
        bytes[i] = static_cast<unsigned char>(i + Size);
    auto reverses = [bytes] {
        auto reversed = bytes;
        std::reverse(reversed.begin(), reversed.end());
        return reversed;
    };
    const auto answer = co_await submit_to(1, reverses);
    co_return std::equal(answer.rbegin(), answer.rend(), bytes.begin());
}

/// Runs `make()` as a task of shard 0 of a runtime with three.
template <class F>
auto on_three_shards(F make) {
    const runtime rt = test::thread_per_core(3).build();
    return spawn_on(rt.handle(), 0, make()).blocking_join();
}

/// Whether what was submitted was refused, with a sentence.
template <class Submission>
task<int> is_refused(Submission s) {
    try {
        co_await std::move(s);
    } catch (const std::logic_error& e) {
        co_return std::string(e.what()).find("would block") != std::string::npos ? 1 : 0;
    }
    co_return 0;
}

template <class E>
std::string message_of(auto call) {
    try {
        call();
    } catch (const E& e) {
        return e.what();
    }
    return "no error";
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_SUITE("scheduler.shard") {
    TEST_CASE("a task that is spawned on a shard runs there") {
        auto main = []() -> task<bool> {
            bool right = magpie::shard_count() == 3 && this_shard() == 0;
            for (std::size_t s = 0; s < 3; ++s) {
                right = co_await spawn_on(s, where()) == s && right;
                right = co_await spawn_on(s, "named", where()) == s && right;
                auto make = [s]() -> task<bool> { co_return this_shard() == s; };
                right = co_await spawn_on(s, make) && right;
            }
            co_return right;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("a function is called on the shard to which it is submitted, and its value comes back") {
        auto main = []() -> task<bool> {
            bool right = true;
            for (std::size_t s = 0; s < 3; ++s) {
                auto plain = [s] { return this_shard() == s ? s + 10 : 0; };
                right = co_await submit_to(s, plain) == s + 10 && right;
                auto waits = [s]() -> task<std::size_t> {
                    co_await magpie::sleep_for(1ms);
                    co_return this_shard() == s ? s + 20 : 0;
                };
                right = co_await submit_to(s, waits) == s + 20 && right;
                right = this_shard() == 0 && right;
            }
            co_return right;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("values of each kind cross: none, references, what can only be moved") {
        auto main = []() -> task<bool> {
            static int data = 7;
            auto nothing = [] { ++data; };
            co_await submit_to(1, nothing);
            auto refers = []() -> int& { return data; };
            int& there = co_await submit_to(1, refers);
            auto gives = [] { return std::make_unique<int>(data); };
            std::unique_ptr<int> moved = co_await submit_to(2, gives);
            auto task_of_none = []() -> task<> {
                ++data;
                co_return;
            };
            co_await submit_to(2, task_of_none);
            co_return data == 9 && &there == &data && *moved == 8;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("functions and values of each size cross: with the message, or by its address") {
        auto main = []() -> task<bool> {
            bool right = co_await crosses<1>();
            right = co_await crosses<8>() && right;
            right = co_await crosses<48>() && right; // the largest function that goes with it
            right = co_await crosses<49>() && right;
            right = co_await crosses<56>() && right; // the largest value
            right = co_await crosses<57>() && right;
            right = co_await crosses<300>() && right;
            co_return right;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("among many shards everything crosses, too") {
        constexpr std::size_t shards = 12; // more than look into each ring
        const runtime rt = test::thread_per_core(shards).build();
        auto asks_all = []() -> task<std::size_t> {
            std::size_t right = 0;
            for (std::size_t s = 0; s < magpie::shard_count(); ++s) {
                auto plain = [] { return this_shard(); };
                right += co_await submit_to(s, plain) == s;
                auto named = [] { return std::to_string(this_shard()); };
                right += co_await submit_to(s, named) == std::to_string(s);
                auto waits = []() -> task<std::size_t> {
                    co_await magpie::yield_now();
                    co_return this_shard();
                };
                right += co_await submit_to(s, waits) == s;
            }
            co_return right;
        };
        std::vector<join_handle<std::size_t>> all;
        for (std::size_t s = 0; s < shards; ++s)
            all.push_back(spawn_on(rt.handle(), s, asks_all()));
        for (join_handle<std::size_t>& h : all)
            CHECK(h.blocking_join() == 3 * shards);
    }

    TEST_CASE("exceptions cross: of a function, of its task, and of what cannot become a task") {
        auto main = []() -> task<std::string> {
            std::string all;
            auto plain = []() -> int { throw std::runtime_error("a"); };
            try {
                co_await submit_to(1, plain);
            } catch (const std::runtime_error& e) {
                all += e.what();
            }
            auto waits = []() -> task<int> {
                co_await magpie::yield_now();
                throw std::runtime_error("b");
            };
            try {
                co_await submit_to(1, waits);
            } catch (const std::runtime_error& e) {
                all += e.what();
            }
            auto never = []() -> task<int> { throw std::runtime_error("c"); };
            auto not_even = [&never]() -> task<int> {
                if (magpie::shard_count() > 0)
                    throw std::runtime_error("c");
                return never();
            };
            try {
                co_await submit_to(1, not_even);
            } catch (const std::runtime_error& e) {
                all += e.what();
            }
            auto here = []() -> int { throw std::runtime_error("d"); };
            try {
                co_await submit_to(0, here);
            } catch (const std::runtime_error& e) {
                all += e.what();
            }
            co_return all;
        };
        CHECK(on_three_shards(main) == "abcd");
    }

    TEST_CASE("a submitted function may not wait: it would block its shard") {
        auto nothing = []() -> task<> { co_return; };
        auto main = [](auto f) -> task<int> {
            int refused = 0;
            join_handle<> h = magpie::spawn(f());
            auto joins = [&h] { h.blocking_join(); };
            magpie::sync::event never;
            auto waits = [&never] { never.blocking_wait(); };
            auto drives = [&f, rt = magpie::runtime_handle::current()] { rt.block_on(f()); };
            auto makes_none = [&never]() -> task<> { // before it gives a task
                never.blocking_wait();
                return []() -> task<> { co_return; }();
            };
            for (std::size_t s = 0; s < 3; ++s) { // the caller's own: its task may not, either
                refused += co_await is_refused(submit_to(s, joins));
                refused += co_await is_refused(submit_to(s, waits));
                refused += co_await is_refused(submit_to(s, drives));
                refused += co_await is_refused(submit_to(s, makes_none));
            }
            co_await h;
            // And afterwards that thread is what it was.
            auto blocks = [] { return magpie::spawn_blocking([] { return 1; }); };
            join_handle<int> one = co_await submit_to(1, blocks);
            co_return refused * 10 + co_await one;
        };
        auto make = [&] { return main(nothing); };
        CHECK(on_three_shards(make) == 121);
    }

    TEST_CASE("dropping the wait drops the task over there, on its shard, before the drop is through") {
        struct notes_end {
            std::atomic<std::size_t>* on;
            ~notes_end() { *on = this_shard(); }
        };
        auto main = []() -> task<bool> {
            bool right = true;
            for (std::size_t s = 0; s < 3; ++s) {
                std::atomic<std::size_t> ended{99};
                magpie::sync::event begun;
                auto waits = [&ended, &begun]() -> task<> {
                    const notes_end guard{&ended};
                    begun.set();
                    co_await magpie::sleep_for(1h);
                };
                const auto first = co_await magpie::select(magpie::may_lose(submit_to(s, waits)),
                                                           begun.wait());
                right = first.index() == 1 && ended == s && right;
            }
            co_return right;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("what is dropped before it has begun is not begun") {
        auto main = []() -> task<bool> {
            std::atomic<int> called{0};
            std::atomic<bool> busy{false};
            std::atomic<bool> free{false};
            auto keeps = [&busy, &free]() -> task<> {
                busy = true;
                while (!free)
                    std::this_thread::yield();
                co_return;
            };
            join_handle<> other = spawn_on(1, keeps);
            auto submits = [](std::atomic<int>& n) -> task<> {
                auto counts = [&n] { ++n; };
                co_await submit_to(1, counts);
            };
            auto submits_task = [](std::atomic<int>& n) -> task<> {
                auto counts = [&n]() -> task<> {
                    ++n;
                    co_return;
                };
                co_await submit_to(1, counts);
            };
            while (!busy)
                co_await magpie::yield_now();
            std::vector<join_handle<>> all;
            for (int i = 0; i < 300; ++i) { // more than the ring holds
                all.push_back(magpie::spawn(submits(called)));
                all.push_back(magpie::spawn(submits_task(called)));
            }
            for (int i = 0; i < 200; ++i)
                co_await magpie::yield_now(); // they are under way
            for (join_handle<>& h : all)
                h.abort();
            for (int i = 0; i < 200; ++i)
                co_await magpie::yield_now();
            free = true;
            int cancelled = 0;
            for (join_handle<>& h : all) {
                const auto r = co_await magpie::as_result(h);
                cancelled += r.has_error();
            }
            co_await other;
            co_return called == 0 && cancelled == 600;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("more messages than a ring holds arrive once each, in order") {
        auto main = []() -> task<bool> {
            static std::vector<int> seen; // of shard 1
            seen.clear();
            auto one = [](int i) -> task<> {
                auto notes = [i] { seen.push_back(i); };
                co_await submit_to(1, notes);
            };
            std::vector<join_handle<>> all;
            for (int i = 0; i < 5000; ++i)
                all.push_back(magpie::spawn(one(i)));
            for (join_handle<>& h : all)
                co_await h;
            auto look = [] { return seen; };
            const std::vector<int> got = co_await submit_to(1, look);
            if (got.size() != 5000)
                co_return false;
            std::vector<bool> there(5000);
            for (const int i : got)
                there[static_cast<std::size_t>(i)] = true;
            for (const bool b : there)
                if (!b)
                    co_return false;
            co_return true;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("a shard whose tasks all yield sends and receives each time they have had their turns") {
        std::atomic<bool> begun{false};
        std::atomic<bool> sent{false};
        bool called = false; // the other shard's
        const runtime rt =
            test::thread_per_core(2).global_queue_interval(65536).event_interval(65536).build();
        auto asks = [](bool& c) -> task<> {
            auto call = [&c] { c = true; };
            co_await submit_to(1, call);
        };
        auto yields = [](std::atomic<bool>& b, const std::atomic<bool>& s,
                         const bool& c) -> task<bool> {
            b = true;
            while (!s)
                std::this_thread::yield();
            co_await magpie::yield_now(); // now the messages are looked at
            co_await magpie::yield_now();
            co_return c;
        };
        auto main = [&]() -> task<bool> {
            join_handle<bool> other = spawn_on(1, yields(begun, sent, called));
            while (!begun)
                std::this_thread::yield();
            join_handle<> asking = magpie::spawn(asks(called));
            for (int i = 0; i < 4; ++i) // it asks, and what it has posted is sent
                co_await magpie::yield_now();
            sent = true;
            const bool was_called = co_await other;
            co_await asking;
            co_return was_called;
        };
        CHECK(spawn_on(rt.handle(), 0, main()).blocking_join());
    }

    TEST_CASE("shards that submit to each other all the time do not starve") {
        const runtime rt = test::thread_per_core(3).build();
        auto asks = [](int n) -> task<int> {
            int sum = 0;
            for (int i = 0; i < n; ++i) {
                auto one = [] { return 1; };
                sum += co_await submit_to((this_shard() + static_cast<std::size_t>(i)) % 3, one);
            }
            co_return sum;
        };
        std::vector<join_handle<int>> all;
        for (std::size_t i = 0; i < 30; ++i)
            all.push_back(spawn_on(rt.handle(), i % 3, asks(300)));
        int sum = 0;
        for (join_handle<int>& h : all)
            sum += h.blocking_join();
        CHECK(sum == 30 * 300);
    }

    TEST_CASE("a function on another shard may spawn there, and submit back") {
        auto main = []() -> task<bool> {
            auto spawns = [] { return magpie::spawn(where()); };
            join_handle<std::size_t> h = co_await submit_to(2, spawns);
            const std::size_t first = co_await h;
            auto back = []() -> task<std::size_t> {
                auto home = [] { return this_shard(); };
                co_return co_await submit_to(0, home) + 100 * this_shard();
            };
            co_return first == 2 && co_await submit_to(1, back) == 100;
        };
        CHECK(on_three_shards(main));
    }

    TEST_CASE("each layout has shards: one, with all its workers") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<bool> {
                const std::size_t last = magpie::shard_count() - 1;
                auto plain = [] { return 3; };
                auto waits = []() -> task<int> {
                    co_await magpie::sleep_for(1ms);
                    co_return 4;
                };
                const int sum = co_await submit_to(last, plain) + co_await submit_to(last, waits);
                co_return sum == 7 && co_await spawn_on(last, where()) == last;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("submitting to a shard of another runtime, while it lives and when it is gone") {
        const runtime rt = test::multi_thread(2).build();
        auto main = [](magpie::runtime_handle to) -> task<int> {
            auto plain = [] { return static_cast<int>(this_shard()) + 10; };
            auto waits = []() -> task<int> {
                co_await magpie::sleep_for(1ms);
                co_return static_cast<int>(this_shard()) + 20;
            };
            co_return co_await submit_to(to, 1, plain) * 100 + co_await submit_to(to, 1, waits);
        };
        runtime other = test::thread_per_core(2).build();
        const magpie::runtime_handle to = other.handle();
        CHECK(rt.block_on(main(to)) == 1121);
        REQUIRE(other.shutdown_timeout(30s));
        CHECK_THROWS_AS(rt.block_on(main(to)), magpie::task_cancelled);
    }

    TEST_CASE("a shutdown ends tasks that wait for other shards") {
        std::atomic<int> begun{0};
        {
            const runtime rt = test::thread_per_core(3).build();
            auto waits = [](std::atomic<int>& n) -> task<> {
                auto there = [&n]() -> task<> {
                    ++n;
                    co_await magpie::sleep_for(1h);
                };
                co_await submit_to((this_shard() + 1) % 3, there);
            };
            for (int i = 0; i < 30; ++i)
                rt.spawn(waits(begun)).detach();
            REQUIRE(test::eventually([&] { return begun == 30; }));
        }
        CHECK(begun == 30);
    }

    TEST_CASE("a task that a closing shard refuses may be revoked at that moment") {
        std::atomic<int> ready{0};
        std::atomic<bool> closing{false};
        std::atomic<bool> refused{false};
        std::atomic<bool> revoked{false};
        std::atomic<bool> gone{false};
        const auto spin_until = [](const std::atomic<bool>& b) {
            while (!b)
                std::this_thread::yield();
        };
        struct is_dropped { // while the shard refuses the task
            std::atomic<bool>& refused;
            std::atomic<bool>& revoked;
            ~is_dropped() {
                refused = true;
                CHECK(test::eventually([this] { return revoked.load(); }));
            }
        };
        struct says_gone {
            std::atomic<bool>& gone;
            ~says_gone() { gone = true; }
        };
        auto never = [](std::unique_ptr<is_dropped>) -> task<> { co_return; };
        auto there = [&] {
            return never(std::unique_ptr<is_dropped>(new is_dropped{refused, revoked}));
        };
        auto submits = [&]() -> task<> {
            const says_gone last{gone};
            // Dropped, they are cancelled in this order.
            co_await magpie::select_biased(magpie::may_lose(submit_to(1, there)),
                                           tells_of_cancel(revoked));
        };
        auto keeps_caller = [&](join_handle<> h) -> task<> {
            for (int i = 0; i < 100; ++i)
                co_await magpie::yield_now(); // it is under way
            ++ready;
            spin_until(refused);
            h.abort();
        };
        // What comes behind that in the same round: so the answer is sent before the shard looks for aborts again,
        // and that only when the cell has no owner any more.
        auto calls = [](std::shared_ptr<int> p) -> task<> {
            auto call = [p] { return *p; };
            co_await submit_to(1, call);
        };
        auto waits = [&](std::shared_ptr<int> p) -> task<> {
            auto call = [p, &gone] { CHECK(test::eventually([&gone] { return gone.load(); })); };
            co_await submit_to(1, call);
        };
        auto keeps_third = [&]() -> task<> {
            const auto p = std::make_shared<int>(1);
            for (int i = 0; i < 100; ++i) {
                if (i < 20)
                    magpie::spawn(calls(p)).detach();
                co_await magpie::yield_now();
            }
            magpie::spawn(waits(p)).detach();
            for (int i = 0; i < 100; ++i)
                co_await magpie::yield_now();
            ++ready;
            spin_until(gone);
        };
        auto keeps_target = [&]() -> task<> {
            ++ready;
            spin_until(closing);
            co_return;
        };
        auto nothing = []() -> task<> { co_return; };
        std::optional<runtime> rt(test::thread_per_core(3).build());
        const auto handle = rt->handle();
        spawn_on(handle, 1, keeps_target()).detach();
        REQUIRE(test::eventually([&] { return ready == 1; }));
        spawn_on(handle, 0, keeps_caller(spawn_on(handle, 0, submits()))).detach();
        spawn_on(handle, 2, keeps_third()).detach();
        REQUIRE(test::eventually([&] { return ready == 3; }));
        std::thread closes([&] { rt.reset(); });
        REQUIRE(test::eventually([&] { return spawn_on(handle, 1, nothing()).is_finished(); }));
        closing = true;
        closes.join();
        CHECK(revoked);
    }

    TEST_CASE("the paused clock waits for messages") {
        const runtime rt = test::thread_per_core(3).paused_clock(true).build();
        auto main = []() -> task<bool> {
            const auto begin = magpie::clock::now();
            auto sleeps = []() -> task<> { co_await magpie::sleep_for(10ms); };
            for (int i = 0; i < 100; ++i)
                co_await submit_to(static_cast<std::size_t>(i) % 3, sleeps);
            co_return magpie::clock::now() - begin == 1000ms;
        };
        CHECK(rt.block_on(main()));
    }

    TEST_CASE("what cannot be is refused with a sentence") {
        const runtime rt = test::thread_per_core(2).build();
        auto nothing = [] {};
        CHECK(contains(message_of<std::logic_error>([&] { static_cast<void>(submit_to(0, nothing)); }),
                       "outside of a runtime"));
        CHECK(contains(message_of<std::logic_error>([] { static_cast<void>(this_shard()); }),
                       "outside of a runtime"));
        const magpie::enter_guard in = rt.enter();
        CHECK(magpie::shard_count() == 2);
        CHECK(rt.shards() == 2);
        CHECK(contains(message_of<std::out_of_range>([&] { static_cast<void>(submit_to(2, nothing)); }),
                       "there is no shard 2: the runtime has 2"));
        CHECK(contains(message_of<std::out_of_range>([] { spawn_on(9, where()).detach(); }),
                       "there is no shard 9"));
    }
}
