#include <magpie/scheduler/sharded.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::foreign_ptr;
using magpie::runtime;
using magpie::sharded;
using magpie::submit_to;
using magpie::task;
using magpie::this_shard;

namespace {

/// Notes where it is made, stopped and destroyed.
class service {
public:
    explicit service(std::vector<std::string>& log, int value = 0)
        : log_(&log), home_(this_shard()), value_(value) {
        note("made");
    }
    service(const service&) = delete;
    ~service() { note("gone"); }

    task<> stop() {
        co_await magpie::yield_now();
        note("stopped");
    }
    int add(int n) { return value_ += n; }
    int value() const { return value_; }

private:
    void note(const std::string& what) {
        log_->push_back(what + (this_shard() == home_ ? " " : " away from ") + std::to_string(home_));
    }
    std::vector<std::string>* log_; // the shards take turns at it
    std::size_t home_;
    int value_;
};

struct where_gone {
    explicit where_gone(std::atomic<std::size_t>& on) : gone_on(&on) {}
    where_gone(const where_gone&) = delete;
    ~where_gone() { *gone_on = magpie::worker_index().value_or(99); }
    std::atomic<std::size_t>* gone_on;
};

} // namespace

TEST_SUITE("scheduler.sharded") {
    TEST_CASE("each shard has an instance, made in order, stopped and destroyed in the reverse one") {
        std::vector<std::string> log;
        auto main = [](std::vector<std::string>& notes) -> task<bool> {
            sharded<service> all;
            co_await all.start(std::ref(notes), 5);
            const bool right = all.is_started() && &all.local() == &all.local();
            co_await all.stop();
            co_return right && !all.is_started();
        };
        const runtime rt = test::thread_per_core(3).build();
        CHECK(rt.block_on(main(log)));
        CHECK(log == std::vector<std::string>{"made 0", "made 1", "made 2", "stopped 2", "gone 2",
                                              "stopped 1", "gone 1", "stopped 0", "gone 0"});
    }

    TEST_CASE("invoke_on uses one instance, invoke_on_all each, map_reduce folds them") {
        std::vector<std::string> log;
        auto main = [](std::vector<std::string>& notes) -> task<int> {
            sharded<service> all;
            co_await all.start(std::ref(notes), 1);
            auto add_ten = [](service& s) { return s.add(10); };
            int sum = co_await all.invoke_on(2, add_ten); // 11
            auto add_later = [](service& s) -> task<> {
                co_await magpie::sleep_for(1ms);
                s.add(static_cast<int>(this_shard()));
            };
            co_await all.invoke_on_all(add_later); // 1, 2, 13
            auto value = [](service& s) { return s.value(); };
            sum += 100 * co_await all.map_reduce(value, 0, std::plus<>()); // 16
            auto number = [](service& s) -> task<std::string> {
                co_await magpie::yield_now();
                co_return std::to_string(s.value()) + " ";
            };
            const std::string text = co_await all.map_reduce(number, std::string(), std::plus<>());
            co_await all.stop();
            co_return text == "1 2 13 " ? sum : -1;
        };
        const runtime rt = test::thread_per_core(3).build();
        CHECK(rt.block_on(main(log)) == 1611);
    }

    TEST_CASE("if an instance cannot be made, those before it are stopped") {
        class third_fails {
        public:
            explicit third_fails(std::atomic<int>& live) : live_(&live) {
                if (this_shard() == 2)
                    throw std::runtime_error("no third");
                ++*live_;
            }
            third_fails(const third_fails&) = delete;
            ~third_fails() { --*live_; }

        private:
            std::atomic<int>* live_;
        };
        std::atomic<int> live{0};
        auto main = [](std::atomic<int>& n) -> task<> {
            sharded<third_fails> all;
            co_await all.start(std::ref(n));
        };
        const runtime rt = test::thread_per_core(3).build();
        CHECK_THROWS_WITH_AS(rt.block_on(main(live)), "no third", std::runtime_error);
        CHECK(live == 0);
    }

    TEST_CASE("one whose owner is dropped sends its instances home") {
        std::atomic<int> wrong{0};
        std::atomic<int> gone{0};
        class counts {
        public:
            counts(std::atomic<int>& wrong, std::atomic<int>& gone) : wrong_(&wrong), gone_(&gone) {}
            counts(const counts&) = delete;
            ~counts() {
                *wrong_ += this_shard() != home_;
                ++*gone_;
            }

        private:
            std::atomic<int>* wrong_;
            std::atomic<int>* gone_;
            std::size_t home_ = this_shard();
        };
        auto owner = [](std::atomic<int>& w, std::atomic<int>& g, std::atomic<bool>& up) -> task<> {
            sharded<counts> all;
            co_await all.start(std::ref(w), std::ref(g));
            up = true;
            co_await magpie::sleep_for(1h);
        };
        std::atomic<bool> started{false};
        const runtime rt = test::thread_per_core(3).build();
        magpie::join_handle<> h = rt.spawn(owner(wrong, gone, started));
        REQUIRE(test::eventually([&] { return started.load(); }));
        h.abort();
        CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        CHECK(test::eventually([&] { return gone == 3; }));
        CHECK(wrong == 0);
    }

    TEST_CASE("each layout can have one: with an instance") {
        test::on_each_layout([](auto builder) {
            auto main = []() -> task<std::size_t> {
                sharded<std::string> all;
                co_await all.start("abc");
                const std::size_t n = co_await all.map_reduce(&std::string::size, std::size_t{0},
                                                              std::plus<>());
                const std::size_t shards = magpie::shard_count();
                co_await all.stop();
                co_return n / shards;
            };
            CHECK(builder.build().block_on(main()) == 3);
        });
    }

    TEST_CASE("misuse is refused: started twice, not started") {
        auto main = []() -> task<int> {
            sharded<int> all;
            int errors = 0;
            try {
                ++all.local();
            } catch (const std::logic_error&) {
                ++errors;
            }
            co_await all.stop(); // nothing
            co_await all.start(1);
            try {
                co_await all.start(1);
            } catch (const std::logic_error&) {
                ++errors;
            }
            co_await all.stop();
            co_return errors;
        };
        CHECK(test::thread_per_core(2).build().block_on(main()) == 2);
    }

    TEST_CASE("a foreign_ptr's object is destroyed on its own shard") {
        std::atomic<std::size_t> on{77};
        auto main = [](std::atomic<std::size_t>& gone_on) -> task<bool> {
            auto make = [&gone_on] {
                return foreign_ptr<where_gone>(std::make_unique<where_gone>(gone_on));
            };
            foreign_ptr<where_gone> p = co_await submit_to(2, make);
            bool right = p && p.shard() == 2 && p.get() == &*p && p->gone_on == &gone_on;
            foreign_ptr<where_gone> q = std::move(p);
            right = right && !p && gone_on == 77;
            q.reset();
            while (gone_on == 77)
                co_await magpie::yield_now();
            right = right && gone_on == 2;
            gone_on = 77;
            q = co_await submit_to(1, make);
            q = co_await submit_to(0, make); // the one before goes home
            while (gone_on == 77)
                co_await magpie::yield_now();
            right = right && gone_on == 1;
            co_return right;
        };
        auto on_shard_0 = [](magpie::runtime_handle rt, task<bool> t) {
            return magpie::spawn_on(rt, 0, std::move(t)).blocking_join();
        };
        {
            const runtime rt = test::thread_per_core(3).build();
            CHECK(on_shard_0(rt.handle(), main(on)));
        }
        CHECK(on == 0);
    }

    TEST_CASE("a foreign_ptr that outlives its runtime is destroyed where it is") {
        std::atomic<std::size_t> on{77};
        foreign_ptr<where_gone> p;
        {
            const runtime rt = test::thread_per_core(2).build();
            auto make = [](std::atomic<std::size_t>& gone_on) -> task<foreign_ptr<where_gone>> {
                co_return foreign_ptr<where_gone>(std::make_unique<where_gone>(gone_on));
            };
            p = rt.block_on(make(on));
        }
        CHECK(on == 77);
        p.reset();
        CHECK(on == 99);
    }
}
