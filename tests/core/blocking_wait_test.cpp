#include <magpie/core/detail/blocking_wait.hpp>

#include <magpie/core/join_handle.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/this_task.hpp>
#include <magpie/sync/event.hpp>

#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using magpie::join_handle;
using magpie::task;
using magpie::sync::event;

namespace {

task<int> number_after(event& e, int n) {
    co_await e.wait();
    co_return n;
}

/// Waits on a thread of its own, and says that it is about to.
class waiter {
public:
    template <class F>
    explicit waiter(F f)
        : thread_([this, f = std::move(f)]() mutable {
              started_.count_down();
              f();
          }) {
        started_.wait();
    }
    ~waiter() { thread_.join(); }

private:
    std::latch started_{1};
    std::thread thread_;
};

/// Has to be woken twice; looks around each time.
class twice : public magpie::operation<twice> {
public:
    explicit twice(std::atomic<magpie::leaf*>& slot) : slot_(&slot) {}

    bool try_complete() noexcept {
        in_task_ = in_task_ || magpie::this_task::exists();
        return looked_++ == 2;
    }
    bool publish() noexcept {
        retry_ = true; // to be woken is to look again
        slot_->store(this);
        return true;
    }
    /// Whether it was ever looked at as if it belonged to a task.
    bool await_resume() const noexcept { return in_task_; }

private:
    magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::coming; }

    std::atomic<magpie::leaf*>* slot_;
    int looked_ = 0;
    bool in_task_ = false;
};

} // namespace

TEST_SUITE("core.blocking_wait") {
    TEST_CASE("an operation that has more than one thing to wait for, on a plain thread, which runs no "
              "task meanwhile") {
        std::atomic<magpie::leaf*> slot{nullptr};
        std::atomic<int> wakes{0};
        {
            const waiter waits([&] { CHECK_FALSE(magpie::detail::blocking_wait(twice(slot))); });
            for (; wakes < 2; ++wakes) {
                magpie::leaf* l;
                while ((l = slot.exchange(nullptr)) == nullptr)
                    std::this_thread::yield();
                wake(*l);
            }
        }
        CHECK(slot == nullptr);
    }

    TEST_CASE("a plain thread may wait for a task") {
        test::manual_executor ex;
        event e;
        SUBCASE("that has ended") {
            e.set();
            auto h = ex.spawn(number_after(e, 3));
            ex.run_until_idle();
            CHECK(h.blocking_join() == 3);
        }
        SUBCASE("that has not") {
            auto h = ex.spawn(number_after(e, 3));
            int got = 0;
            {
                const waiter w([&] { got = h.blocking_join(); });
                ex.run_until_idle();
                e.set();
                ex.run_until_idle();
            }
            CHECK(got == 3);
        }
        SUBCASE("that gives a reference, something move-only, or nothing") {
            int n = 0;
            auto reference = [](int& m) -> task<int&> { co_return m; };
            auto move_only = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(1); };
            auto nothing = []() -> task<> { co_return; };
            auto a = ex.spawn(reference(n));
            auto b = ex.spawn(move_only());
            auto c = ex.spawn(nothing());
            ex.run_until_idle();
            CHECK(&a.blocking_join() == &n);
            CHECK(*b.blocking_join() == 1);
            c.blocking_join();
        }
    }

    TEST_CASE("a thread that waits hears of exceptions and of cancellation") {
        test::manual_executor ex;
        event e;
        auto fails = [](event& ev) -> task<> {
            co_await ev.wait();
            throw std::domain_error("no");
        };
        std::string failed;
        std::string cancelled;
        {
            auto a = ex.spawn(fails(e));
            auto b = ex.spawn(fails(e));
            ex.run_until_idle();
            const waiter on_a([&, h = std::move(a)]() mutable {
                try {
                    h.blocking_join();
                } catch (const std::domain_error& x) {
                    failed = x.what();
                }
            });
            b.abort();
            const waiter on_b([&, h = std::move(b)]() mutable {
                try {
                    h.blocking_join();
                } catch (const magpie::task_cancelled& x) {
                    cancelled = x.what();
                }
            });
            ex.run_until_idle();
            e.set();
            ex.run_until_idle();
        }
        CHECK(failed == "no");
        CHECK(cancelled.ends_with("was cancelled"));
    }

    TEST_CASE("a thread may wait again and again") {
        test::manual_executor ex;
        auto number = [](int n) -> task<int> { co_return n; };
        constexpr int rounds = test::scaled(20'000);
        std::vector<join_handle<int>> handles;
        for (int i = 0; i < rounds; ++i)
            handles.push_back(ex.spawn(number(i)));
        int right = 0;
        {
            const waiter w([&] {
                for (int i = 0; i < rounds; ++i)
                    right += handles[static_cast<std::size_t>(i)].blocking_join() == i ? 1 : 0;
            });
            ex.run_until_idle();
        }
        CHECK(right == rounds);
    }

    TEST_CASE("many threads wait for one event") {
        event e;
        constexpr int threads = 20;
        int plain = 0; // written before set(): each waiter may read it
        std::vector<int> seen(threads, 0);
        {
            std::vector<std::unique_ptr<waiter>> waiters;
            for (int i = 0; i < threads; ++i)
                waiters.push_back(std::make_unique<waiter>([&, i] {
                    e.blocking_wait();
                    seen[static_cast<std::size_t>(i)] = plain;
                }));
            plain = 7;
            e.set();
        }
        CHECK(seen == std::vector<int>(threads, 7));
        e.blocking_wait(); // does not wait any more
    }

    TEST_CASE("a blocking wait inside a task throws std::logic_error, and waits for nothing") {
        test::manual_executor ex;
        event e;
        auto h = ex.spawn(number_after(e, 3));
        auto joins = [](join_handle<int>& k) -> task<> {
            k.blocking_join();
            co_return;
        };
        auto waits = [](event& ev) -> task<> {
            ev.blocking_wait();
            co_return;
        };
        CHECK_THROWS_AS(test::run(ex, joins(h)), std::logic_error);
        CHECK_THROWS_AS(test::run(ex, waits(e)), std::logic_error);
        e.set();
        ex.run_until_idle();
        CHECK_THROWS_AS(test::run(ex, joins(h)), std::logic_error); // also when it is ready
        CHECK(h.blocking_join() == 3);
    }

    TEST_CASE("what was done before the wake is visible, also if the thread had not begun to wait") {
        // Woken between publish() and the wait. ThreadSanitizer reports it if nothing but the flag,
        // which orders nothing, stands between the write and the read of `plain`.
        struct woken_at_once : magpie::operation<woken_at_once> {
            std::thread& waker;
            std::unique_ptr<int> plain = std::make_unique<int>(0);
            std::atomic<bool> woken{false};
            explicit woken_at_once(std::thread& t) : waker(t) {}
            bool try_complete() const noexcept { return false; }
            bool publish() noexcept {
                waker = std::thread([this] {
                    *plain = 5;
                    wake(*this);
                    woken.store(true, std::memory_order_relaxed);
                });
                while (!woken.load(std::memory_order_relaxed))
                    std::this_thread::yield();
                return true;
            }
            magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::coming; }
            int await_resume() const noexcept { return *plain; }
        };
        std::thread waker;
        woken_at_once operation(waker);
        CHECK(magpie::detail::blocking_wait(operation) == 5);
        waker.join();
    }

    TEST_CASE("a task is woken by a thread, and a thread by a task, in turn") {
        constexpr int rounds = test::scaled(5'000);
        test::manual_executor ex;
        std::vector<event> to_task(static_cast<std::size_t>(rounds));
        std::vector<event> to_thread(static_cast<std::size_t>(rounds));
        auto f = [](std::vector<event>& in, std::vector<event>& out) -> task<> {
            for (std::size_t i = 0; i < in.size(); ++i) {
                co_await in[i].wait();
                out[i].set();
            }
        };
        auto h = ex.spawn(f(to_task, to_thread));
        std::thread other([&] {
            for (std::size_t i = 0; i < to_task.size(); ++i) {
                to_task[i].set();
                to_thread[i].blocking_wait();
            }
        });
        while (!h.is_finished())
            if (!ex.run_one())
                std::this_thread::yield();
        other.join();
        CHECK(h.is_finished());
    }
}
