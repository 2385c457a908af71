#include <io/src/epoll_reactor.hpp>
#include <io/src/portable_reactor.hpp>

#include <test/eventually.hpp>
#include <test/io.hpp>

#include <magpie/magpie.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::io::async_fd;
using magpie::io::readiness;
using magpie::io::tcp_stream;
using magpie::io::detail::epoll_reactor;
using magpie::io::detail::portable_reactor;
using magpie::io::detail::reactor;
using magpie::io::detail::registration;
using magpie::io::detail::registration_directory;
using steady = std::chrono::steady_clock;
using test::bytes;
using test::connected;

struct released {
    void operator()(reactor* r) const noexcept { r->release(); }
};

template <class Reactor>
std::unique_ptr<Reactor, released> make_reactor() {
    return std::unique_ptr<Reactor, released>(new Reactor);
}

magpie::task<> wait_readable(async_fd& fd) { static_cast<void>(co_await fd.readable()); }

/// Sends back what comes, `rounds` times.
magpie::task<> answer(tcp_stream s, int rounds) {
    std::array<std::byte, 1> b;
    for (int i = 0; i < rounds; ++i) {
        co_await s.read_exact(b);
        co_await s.write_all(b);
    }
}

magpie::task<> ask(tcp_stream& s, int rounds) {
    std::array<std::byte, 1> b{};
    for (int i = 0; i < rounds; ++i) {
        co_await s.write_all(b);
        co_await s.read_exact(b);
    }
}

/// Tasks that become ready all at once, as often as somebody rings: each waits for a duplicate of one
/// eventfd, and the system makes all of these ready in one step. Each of their turns lasts `busy`.
class ringed_tasks {
public:
    ringed_tasks(const magpie::runtime& rt, int tasks, std::chrono::microseconds busy)
        : rt_(rt), tasks_(tasks), bell_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        for (int i = 0; i < tasks; ++i)
            handles_.push_back(rt.spawn(listen(::dup(bell_), busy, turns_)));
        REQUIRE(ring()); // a descriptor that is ready when it is registered has an event as well
    }
    ringed_tasks(const ringed_tasks&) = delete;
    ~ringed_tasks() {
        for (auto& h : handles_)
            h.abort();
        for (auto& h : handles_)
            CHECK(test::ends_cancelled(h));
        ::close(bell_);
    }

    /// Rings, and gives whether all have had a turn.
    bool ring() {
        const int before = turns_;
        const std::uint64_t one = 1;
        return ::write(bell_, &one, sizeof one) == sizeof one &&
               test::eventually([&] { return turns_ >= before + tasks_; });
    }

    /// How many wakes of workers so many rings have cost.
    std::uint64_t wakes(int rings) {
        const std::uint64_t before = unparks();
        for (int i = 0; i < rings; ++i)
            REQUIRE(ring());
        return unparks() - before;
    }

private:
    static magpie::task<> listen(int duplicate, std::chrono::microseconds busy,
                                 std::atomic<int>& turns) {
        async_fd fd(duplicate);
        for (;;) {
            auto guard = co_await fd.readable();
            guard.clear_ready(); // nobody reads it: the next ring is the next event
            for (const auto until = steady::now() + busy; steady::now() < until;) {}
            ++turns;
        }
    }

    std::uint64_t unparks() const {
        std::uint64_t n = 0;
        for (const auto& w : rt_.metrics().workers)
            n += w.unparks;
        return n;
    }

    const magpie::runtime& rt_;
    const int tasks_;
    const int bell_;
    std::atomic<int> turns_{0};
    std::vector<magpie::join_handle<>> handles_;
};

} // namespace

TEST_SUITE("io.reactor") {
    TEST_CASE("Asio: an event of a descriptor that nobody waits for ends run_one, each time") {
        // The reactor stands on this: it never starts a wait for its own set.
        boost::asio::io_context context(1);
        const auto work = boost::asio::make_work_guard(context);
        const int set = ::epoll_create1(EPOLL_CLOEXEC);
        boost::asio::posix::stream_descriptor nested(context, set);
        const int event = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        epoll_event e{EPOLLIN | EPOLLET, {.fd = event}};
        REQUIRE(::epoll_ctl(set, EPOLL_CTL_ADD, event, &e) == 0);
        for (int i = 0; i < 100; ++i) {
            const std::uint64_t one = 1;
            REQUIRE(::write(event, &one, sizeof one) == sizeof one); // never read: an edge all the same
            CHECK(context.run_one() == 1);
            std::array<epoll_event, 4> events;
            CHECK(::epoll_wait(set, events.data(), 4, 0) == 1);
            CHECK(context.poll() == 0); // and it was an edge, not a state
        }
        ::close(event);
    }

    TEST_CASE("a registration takes three words") { static_assert(sizeof(registration) == 24); }

    TEST_CASE("a registration is found by its number, whatever reactor and page it is of") {
        auto one = make_reactor<epoll_reactor>();
        auto other = make_reactor<epoll_reactor>();
        std::vector<int> fds;
        std::vector<registration*> all;
        for (int i = 0; i < 400; ++i)
            for (epoll_reactor* const r : {one.get(), other.get()}) {
                fds.push_back(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
                all.push_back(&r->add(fds.back(), false));
                CHECK(&all.back()->where() == r);
            }
        for (registration* const r : all)
            CHECK(&registration_directory::at(registration_directory::number_of(*r)) == r);
        for (registration* const r : all)
            r->where().remove(*r);
        for (const int fd : fds)
            ::close(fd);
    }

    TEST_CASE("the number of a page comes back") {
        const auto first = registration_directory::take();
        const auto second = registration_directory::take();
        CHECK(first != second);
        registration_directory::give_back(first);
        CHECK(registration_directory::take() == first);
        registration_directory::give_back(second);
        registration_directory::give_back(first);
    }

    TEST_CASE("what is forgotten of priority and errors is what was seen, and no other descriptor's") {
        auto r = make_reactor<epoll_reactor>();
        test::descriptor_pair one_pair;
        test::descriptor_pair other_pair;
        const int fds[] = {one_pair.take(), other_pair.take()};
        registration& one = r->add(fds[0], false);
        registration& other = r->add(fds[1], false); // of the same page
        constexpr unsigned priority = 1, error = 2;
        const auto seen = [](const registration& of) { return readiness(of.see()); };

        one.dispatch(EPOLLPRI | EPOLLERR, 1);
        const auto first = one.see();
        one.dispatch(EPOLLPRI, 2);
        one.forget_extra(first.extra, priority);
        CHECK(seen(one).is_priority()); // another one has come since

        const auto second = one.see();
        other.dispatch(EPOLLERR, 3);
        one.forget_extra(second.extra, priority);
        CHECK(seen(one).is_priority()); // kept, for nobody knows whose the event was

        one.forget_extra(one.see().extra, priority);
        CHECK_FALSE(seen(one).is_priority());
        CHECK(seen(one).is_error());
        CHECK(seen(other).is_error());
        one.forget_extra(one.see().extra, priority | error);
        CHECK_FALSE(seen(one).is_error());
        CHECK(seen(other).is_error());
        CHECK_FALSE(seen(other).is_priority());

        r->remove(one);
        r->remove(other);
        for (const int fd : fds)
            ::close(fd);
    }

    TEST_CASE("who waits beside another is found by his own descriptor's events alone") {
        // Both registrations keep such waits in the same list.
        test::descriptor_pair one_pair;
        test::descriptor_pair other_pair;
        const magpie::runtime rt = test::current_thread().build();
        auto all = [](test::descriptor_pair& one, test::descriptor_pair& other) -> magpie::task<> {
            async_fd first(one.take());
            async_fd second(other.take());
            std::vector<magpie::join_handle<>> of_first;
            std::vector<magpie::join_handle<>> of_second;
            for (int i = 0; i < 3; ++i) {
                of_first.push_back(magpie::spawn(wait_readable(first)));
                of_second.push_back(magpie::spawn(wait_readable(second)));
            }
            co_await magpie::yield_now(); // all wait
            CHECK(test::write_fd(one.there(), "x"));
            for (auto& h : of_first)
                co_await h;
            for (auto& h : of_second)
                CHECK_FALSE(h.is_finished());
            of_second[1].abort();
            CHECK(test::write_fd(other.there(), "x"));
            co_await of_second[0];
            co_await of_second[2];
        };
        rt.block_on(all(one_pair, other_pair));
    }

    TEST_CASE_TEMPLATE("wake ends the park under way, or the next one", TestType, epoll_reactor,
                       portable_reactor) {
        auto r = make_reactor<TestType>();
        r->wake();
        r->park(steady::time_point::max()); // returns
        r->wake();
        r->poll();                          // has seen it, and keeps it
        r->park(steady::time_point::max()); // returns
        std::thread waker([&] { r->wake(); });
        r->park(steady::time_point::max());
        waker.join();
    }

    TEST_CASE_TEMPLATE("park ends at its deadline, and no deadline is lost for one that was set before",
                       TestType, epoll_reactor, portable_reactor) {
        auto r = make_reactor<TestType>();
        const auto begin = steady::now();
        const auto far = begin + 24h;
        r->wake();
        r->park(far); // arms for a long time
        while (steady::now() < begin + 5ms)
            r->park(begin + 5ms); // a nearer one; it may wake early
        CHECK(steady::now() < begin + 30s);
        while (steady::now() < begin + 10ms)
            r->park(begin + 10ms);
        CHECK(steady::now() < begin + 30s);
        r->park(steady::now() - 1h); // long ago
    }

    TEST_CASE("an event that came before the registration is not lost") {
        test::run_on_each_layout([]() -> magpie::task<> {
            for (int i = 0; i < 100; ++i) {
                test::descriptor_pair p;
                CHECK(test::write_fd(p.there(), "x"));
                async_fd fd(p.take());
                co_await wait_readable(fd);
            }
        });
    }

    TEST_CASE("more descriptors are ready than one call of the kernel tells of") {
        test::run_on_each_layout([]() -> magpie::task<> {
            std::vector<std::unique_ptr<async_fd>> all;
            std::vector<magpie::join_handle<>> waits;
            for (int i = 0; i < 600; ++i) {
                all.push_back(std::make_unique<async_fd>(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
                waits.push_back(magpie::spawn(wait_readable(*all.back())));
            }
            co_await test::settle();
            const std::uint64_t one = 1;
            for (auto& fd : all)
                CHECK(::write(fd->native_handle(), &one, sizeof one) == sizeof one);
            for (auto& w : waits)
                co_await w;
        });
    }

    TEST_CASE("timers run beside I/O") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto server = magpie::spawn(answer(std::move(pair.there), 300));
            auto client = magpie::spawn(ask(pair.here, 300));
            for (int i = 0; i < 20; ++i)
                co_await magpie::sleep_for(1ms);
            co_await client;
            co_await server;
            const auto begin = steady::now();
            co_await magpie::sleep_for(5ms); // nobody else makes the reactor return
            CHECK(steady::now() - begin >= 5ms);
        });
    }

    TEST_CASE("a task that never suspends for long does not starve I/O on its worker") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto server = magpie::spawn(answer(std::move(pair.there), 50));
            auto client = magpie::spawn(ask(pair.here, 50));
            while (!client.is_finished())
                co_await magpie::yield_now();
            co_await client;
            co_await server;
        }());
    }

    TEST_CASE("when a worker is stuck right after its I/O, another one takes the reactor over") {
        std::atomic<bool> stuck{false}, done{false};
        const magpie::runtime rt = test::multi_thread(2).build();
        auto blocker = rt.spawn([](std::atomic<bool>& s, std::atomic<bool>& d) -> magpie::task<bool> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            auto peer = magpie::spawn([](int there) -> magpie::task<> {
                CHECK(test::write_fd(there, "x"));
                co_return;
            }(p.there()));
            static_cast<void>(co_await fd.readable());
            co_await peer;
            s = true;
            co_return test::eventually([&] { return d.load(); }); // blocks its worker
        }(stuck, done));
        REQUIRE(test::eventually([&] { return stuck.load(); }));
        rt.block_on(test::within_five_minutes([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto server = magpie::spawn(answer(std::move(pair.there), 200));
            co_await ask(pair.here, 200);
            co_await server;
        }()));
        done = true;
        CHECK(blocker.blocking_join());
    }

    TEST_CASE("the reactor comes while the workers sleep without one, and timers and wakes go on") {
        for (int i = 0; i < 50; ++i) {
            test::descriptor_pair p;
            const magpie::runtime rt = test::multi_thread(2).build();
            auto sleeper = rt.spawn([]() -> magpie::task<> { co_await magpie::sleep_for(2ms); }());
            {
                const auto in = rt.enter(); // a plain thread installs it
                async_fd fd(p.take());
                CHECK(test::write_fd(p.there(), "x"));
                rt.block_on(test::within_five_minutes(wait_readable(fd)));
            }
            REQUIRE(test::ends(sleeper));
            rt.block_on(test::within_five_minutes(
                []() -> magpie::task<> { co_await magpie::sleep_for(1ms); }()));
            sleeper.detach();
        }
    }

    TEST_CASE("a runtime with I/O leaves no descriptor behind") {
        const std::size_t before = test::open_descriptors();
        for (int i = 0; i < 20; ++i) {
            const magpie::runtime rt = test::multi_thread(2).build();
            tcp_stream outlives;
            rt.block_on([](tcp_stream& s) -> magpie::task<> {
                auto pair = co_await connected();
                s = std::move(pair.here);
            }(outlives));
        }
        CHECK(test::are_open_again(before));
    }

    TEST_CASE(
        "several runtimes have reactors of their own, and a socket may be used from another one") {
        const magpie::runtime first = test::multi_thread(1).build();
        const magpie::runtime second = test::multi_thread(1).build();
        tcp_stream here, there;
        first.block_on([](tcp_stream& h, tcp_stream& t) -> magpie::task<> {
            auto pair = co_await connected();
            h = std::move(pair.here);
            t = std::move(pair.there);
        }(here, there));
        auto server = first.spawn(answer(std::move(there), 100));
        second.block_on(test::within_five_minutes(ask(here, 100)));
        server.blocking_join();
    }

    TEST_CASE("the paused clock does not overtake what has come") {
        test::on_each_layout([](magpie::runtime_builder builder) {
            builder.paused_clock(true);
            const magpie::runtime rt = builder.build();
            rt.block_on([]() -> magpie::task<> {
                auto pair = test::local_pair();
                for (int i = 0; i < 3000; ++i) {
                    CHECK(pair.here.try_write(bytes("x")));
                    std::array<std::byte, 8> buffer;
                    const auto n = co_await magpie::timeout(1h, pair.there.read(buffer));
                    CHECK(n.has_value());
                }
            }());
        });
    }

    TEST_CASE("a batch of events wakes one other worker at most, and none if its turns are short" *
              doctest::skip(test::on_portable_reactor)) { // which asks anew what is still readable
        constexpr int rings = 100;
        SUBCASE("long turns: one") {
            const magpie::runtime rt = test::multi_thread(2).build();
            ringed_tasks tasks(rt, 4, 600us); // more than it ever takes to be worth it
            CHECK(test::eventually([&] {      // it may be two, if one of them was held up in between
                const std::uint64_t wakes = tasks.wakes(rings);
                return wakes > rings / 2 && wakes <= rings;
            }));
        }
        SUBCASE("short turns: none") {
            // What a turn usually takes is a moving average, which a busy machine disturbs: there is a
            // time in which it does not.
            const magpie::runtime rt = test::multi_thread(2).build();
            ringed_tasks tasks(rt, 2, 0us);
            CHECK(test::eventually([&] { return tasks.wakes(rings) < rings / 10; }));
        }
    }

    TEST_CASE("the reactor stays with the worker that had it, though another one was awake meanwhile" *
              doctest::skip(
                  test::on_portable_reactor)) { // which tells of the bell for as long as it is readable
        // While each ring keeps a worker busy, the other one runs a task and lies down.
        constexpr int rings = 50;
        std::atomic<int> begun{0}, let_go{0}, done{0}, moves{0};
        const magpie::runtime rt = test::multi_thread(2).build();
        const int bell = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        auto listener = rt.spawn([](int duplicate, std::atomic<int>& heard, std::atomic<int>& free_to,
                                    std::atomic<int>& ended,
                                    std::atomic<int>& moved) -> magpie::task<> {
            async_fd fd(duplicate);
            std::thread::id where;
            for (;;) {
                auto guard = co_await fd.readable();
                guard.clear_ready();
                if (std::exchange(where, std::this_thread::get_id()) != std::this_thread::get_id())
                    ++moved;
                const int ring = ++heard;
                CHECK(test::eventually([&] { return free_to >= ring; }));
                ++ended;
            }
        }(::dup(bell), begun, let_go, done, moves));
        const auto parks = [&] {
            std::uint64_t n = 0;
            for (const auto& w : rt.metrics().workers)
                n += w.parks;
            return n;
        };
        const auto until_one_lies_down = [&](auto does) {
            const std::uint64_t parked = parks();
            does();
            REQUIRE(test::eventually([&] { return parks() > parked; }));
        };
        const auto is_heard = [&] {
            const int rung = begun;
            const std::uint64_t one = 1;
            REQUIRE(::write(bell, &one, sizeof one) == sizeof one);
            REQUIRE(test::eventually([&] { return begun > rung; }));
        };
        // A listener that keeps its worker for a millisecond loses the reactor, as it should, and whoever is held up on
        // his way to it. So the rings count that take less, each and the one before: on a busy machine few.
        const auto limit = steady::now() + 5min;
        const auto moves_in_some_rings = [&] {
            int counted = 0;
            int moved = 0;
            bool brief_before = false;
            while (counted < rings) {
                REQUIRE(steady::now() < limit);
                const int before = moves;
                const auto begin = steady::now();
                until_one_lies_down(
                    [&] { rt.spawn([]() -> magpie::task<> { co_return; }()).blocking_join(); });
                until_one_lies_down([&] { let_go = begun.load(); });
                is_heard();
                const bool brief = steady::now() - begin < 1ms;
                if (std::exchange(brief_before, brief) && brief) {
                    ++counted;
                    moved += moves - before;
                }
            }
            return moved;
        };
        is_heard();
        while (moves_in_some_rings() >= rings / 5) {}
        let_go = begun.load();
        REQUIRE(test::eventually([&] { return done == begun; }));
        listener.abort();
        CHECK(test::ends_cancelled(listener));
        ::close(bell);
    }

} // TEST_SUITE
