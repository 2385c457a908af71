// Runtimes of every shape that are made and ended under load, tasks that are aborted in any moment and that
// throw from everywhere: each task ends once, each failure is told once, and threads, descriptors, frames and
// memory are in the end what they were.
//
// The seed is printed; MAGPIE_HAMMER_SEED sets it. MAGPIE_HAMMER_TIMES makes it that many times as long; `./dev hammer` does.

#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/magpie.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/io.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using test::eventually;

namespace ms = magpie::sync;
namespace io = magpie::io;

namespace {

using random_source = std::mt19937_64;

std::uint64_t seed() {
    const char* const text = std::getenv("MAGPIE_HAMMER_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : 20261;
}

int rounds(int once) {
    static const char* const times = std::getenv("MAGPIE_HAMMER_TIMES");
    return (test::sanitized ? once / 10 : once) * (times != nullptr ? std::atoi(times) : 1);
}

std::uint64_t below(random_source& r, std::uint64_t n) { return r() % n; }

/// Counts the objects alive, on all threads: each task has one in its frame and one as a parameter.
struct counted {
    static inline std::atomic<long> alive{0};
    counted() noexcept { alive.fetch_add(1, std::memory_order_relaxed); }
    counted(const counted&) noexcept : counted() {}
    counted& operator=(const counted&) = default;
    ~counted() { alive.fetch_sub(1, std::memory_order_release); } // pairs with rest()
};

/// Whether all that was counted is gone, and seen to be.
bool rest() {
    return eventually([] { return counted::alive.load(std::memory_order_acquire) == 0; });
}

std::size_t frame_bytes() {
    magpie::detail::trim_frames();
    return magpie::detail::reserved_frame_bytes();
}

/// The threads of the process; at its end they are as many as they were. Shutdowns that do not wait let go of
/// threads that still end, and have their part of memory and descriptors until then.
class thread_ledger {
public:
    thread_ledger() = default;
    thread_ledger(const thread_ledger&) = delete;
    ~thread_ledger() {
        CHECK(rest());
        CHECK(eventually([&] { return test::live_threads() == threads_; }));
    }

private:
    const std::size_t threads_ = test::live_threads();
};

/// What the process has; at its end it must have the same.
class ledger {
public:
    ledger() = default;
    ledger(const ledger&) = delete;
    ~ledger() {
        threads_.reset(); // first
        CHECK(eventually([&] { return test::open_descriptors() == descriptors_; }));
        CHECK(eventually([&] { return frame_bytes() == frames_; }));
        // The heap is not counted, for a sanitizer does; but it does not grow with the rounds.
        if constexpr (!test::sanitized)
            CHECK(::mallinfo2().uordblks < heap_ + (4 << 20));
    }

private:
    std::optional<thread_ledger> threads_{std::in_place};
    const std::size_t descriptors_ = test::open_descriptors();
    const std::size_t frames_ = frame_bytes();
    const std::size_t heap_ = ::mallinfo2().uordblks;
};

// --- tasks in every kind of wait ---

/// What the tasks of one runtime wait for. Each keeps it.
struct world {
    ms::event never;
    ms::mutex locked;
    ms::semaphore none{0};
    ms::notify silent;
    ms::barrier two_of_them{1'000'000};
    ms::latch closed{1};
    magpie::cancellation_token uncancelled;
    ms::mpsc::endpoints<int> full = ms::mpsc::channel<int>(1);
    ms::mpmc::endpoints<int> empty = ms::mpmc::channel<int>(4);
    std::optional<decltype(ms::mutex().blocking_lock())> held;

    world() {
        static_cast<void>(full.tx.try_send(1));
        held.emplace(locked.blocking_lock());
    }
    world(const world&) = delete;
};
using shared_world = std::shared_ptr<world>;

constexpr std::uint64_t kinds_of_wait = 22;
constexpr std::uint64_t kinds_with_io = kinds_of_wait + 2;

task<> wait_somehow(shared_world w, std::uint64_t how, std::uint64_t n, counted);

task<int> child(shared_world w, std::uint64_t how, std::uint64_t n) {
    co_await wait_somehow(std::move(w), how, n, counted());
    co_return 1;
}

task<> wait_somehow(shared_world w, std::uint64_t how, std::uint64_t n, counted) {
    const counted here;
    const std::uint64_t inner = n % 5; // a simple one
    switch (how) {
    case 0: co_await magpie::sleep_for(1h); break;
    case 1: co_await magpie::sleep_for(std::chrono::microseconds(n % 500)); break;
    case 2: co_await w->never.wait(); break;
    case 3: {
        auto guard = co_await w->locked.lock();
        break;
    }
    case 4: {
        auto permit = co_await w->none.acquire();
        break;
    }
    case 5: co_await w->silent.notified(); break;
    case 6: co_await w->closed.wait(); break;
    case 7: co_await w->uncancelled.cancelled(); break;
    case 8: {
        const auto r = co_await w->full.tx.send(2);
        static_cast<void>(r);
        break;
    }
    case 9: {
        const auto got = co_await w->empty.rx.recv();
        static_cast<void>(got);
        break;
    }
    case 10:
        for (;;)
            co_await magpie::yield_now();
    case 11: {
        auto r = co_await magpie::select(w->never.wait(), magpie::sleep_for(1h), w->silent.notified());
        static_cast<void>(r);
        break;
    }
    case 12: {
        auto r = co_await magpie::timeout(1h, wait_somehow(w, inner, n / 5, counted()));
        static_cast<void>(r);
        break;
    }
    case 13: co_await magpie::join(child(w, inner, n / 5), child(w, 11, n / 7)); break;
    case 14: {
        auto body = [&](magpie::task_scope& s) -> task<> {
            s.spawn(wait_somehow(w, inner, n / 5, counted()));
            co_await wait_somehow(w, 7, n, counted());
        };
        co_await magpie::scope(body);
        break;
    }
    case 15: {
        magpie::join_set<int> set;
        for (std::uint64_t i = 0; i < 3; ++i)
            set.spawn(child(w, inner, n + i));
        static_cast<void>(co_await set.join_next());
        break;
    }
    case 16: co_await magpie::fork_join(child(w, inner, n / 5), child(w, 2, n / 5)); break;
    case 17: {
        auto call = [w, c = counted()] { std::this_thread::yield(); };
        co_await magpie::spawn_blocking(std::move(call));
        break;
    }
    case 18: co_await magpie::shield(wait_somehow(w, 1, n, counted())); break;
    case 19: {
        auto body = [&](counted&) { return wait_somehow(w, inner, n / 5, counted()); };
        auto teardown = [](counted&) -> task<> { co_await magpie::yield_now(); };
        co_await magpie::with(counted(), body, teardown);
        break;
    }
    case 20: {
        auto h = magpie::spawn(wait_somehow(w, inner, n / 5, counted()));
        co_await std::move(h); // dropped with this one, it goes on by itself
        break;
    }
    case 21: co_await w->two_of_them.wait(); break;
    case 22: {
        auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
        auto next = co_await listener.accept();
        break;
    }
    default: {
        auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
        auto s = co_await io::tcp_stream::connect(listener.local_endpoint());
        std::array<std::byte, 8> buffer;
        static_cast<void>(co_await s.read(buffer));
    }
    }
}

struct shape {
    magpie::runtime_builder builder;
    bool has_io = true;
    bool has_threads = true;
};

shape any_shape(random_source& r) {
    shape s;
    const std::uint64_t layout = below(r, 4);
    s.has_threads = layout != 0;
    s.has_io = below(r, 3) == 0;
    const std::size_t workers = 1 + below(r, 4);
    s.builder = layout == 0   ? test::current_thread()
                : layout == 1 ? test::thread_per_core(workers)
                              : test::multi_thread(workers);
    s.builder.io(s.has_io)
        .lifo_slot(below(r, 2) == 0)
        .budget(static_cast<std::uint16_t>(1 + below(r, 128)))
        .event_interval(static_cast<std::uint32_t>(1 + below(r, 61)))
        .max_blocking_threads(1 + below(r, 3))
        .thread_keep_alive(below(r, 2) == 0 ? std::chrono::nanoseconds(1us)
                                            : std::chrono::nanoseconds(1s))
        .seed(r());
    if (below(r, 4) == 0)
        s.builder.thread_stack_size(256 * 1024);
    if (below(r, 8) == 0)
        s.builder.paused_clock(true);
    return s;
}

task<> turns(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i)
        co_await magpie::yield_now();
}

/// Makes a runtime, fills it, and ends it in one of many ways, in some moment.
void live_and_die(random_source& r) {
    const shape s = any_shape(r);
    const auto w = std::make_shared<world>();
    std::optional<runtime> rt(s.builder.build());
    const std::uint64_t kinds = s.has_io ? kinds_with_io : kinds_of_wait;
    std::vector<join_handle<>> handles;
    for (std::uint64_t i = below(r, 12); i > 0; --i) {
        auto h = rt->spawn(wait_somehow(w, below(r, kinds), r(), counted()));
        if (below(r, 3) == 0)
            h.detach();
        else
            handles.push_back(std::move(h));
    }
    std::thread outside;
    if (below(r, 4) == 0)
        outside = std::thread([handle = rt->handle(), w, seed = r(), kinds] {
            random_source mine(seed);
            for (int i = 0; i < 8; ++i)
                handle.spawn(wait_somehow(w, below(mine, kinds), mine(), counted())).detach();
        });
    if (below(r, 2) == 0)
        rt->block_on(turns(below(r, 20)));
    for (const auto& h : handles)
        if (below(r, 4) == 0)
            h.abort();
    // Who waits in block_on while the runtime ends, and the task that ends it.
    const auto ends_it = [](runtime& which, std::uint64_t after) -> task<> {
        co_await turns(after);
        which.shutdown_background();
    };
    // A current_thread runtime that does not wait for tasks that take their time has no thread for them.
    const std::uint64_t way = below(r, 6);
    switch (!s.has_threads && (way == 1 || way == 2) ? 6 : way) {
    case 0: // a worker, or whoever drives, while this thread waits for it
    {
        const auto handle = rt->handle(); // the runtime itself is used by the task
        try {
            handle.block_on(ends_it(*rt, below(r, 5)));
        } catch (const magpie::task_cancelled&) {}
        break;
    }
    case 1: rt->shutdown_background(); break;
    case 2: static_cast<void>(rt->shutdown_timeout(std::chrono::microseconds(below(r, 300)))); break;
    case 3: { // another thread
        std::thread foreign([&] { rt.reset(); });
        foreign.join();
        break;
    }
    case 4: { // another thread, while this one is in block_on
        const auto handle = rt->handle();
        std::thread foreign([&] { rt.reset(); });
        try {
            handle.block_on(wait_somehow(w, below(r, kinds_of_wait), r(), counted()));
        } catch (const magpie::task_cancelled&) {}
        foreign.join();
        break;
    }
    case 6: CHECK(rt->shutdown_timeout(30s)); break;
    default: break; // the destructor
    }
    rt.reset();
    if (outside.joinable())
        outside.join();
    for (auto& h : handles)
        CHECK(test::ends(h));
}

} // namespace

TEST_SUITE("stress.lifecycle") {
    TEST_CASE("thousands of runtimes of any shape, which end in any way, under load") {
        const std::uint64_t first = seed();
        MESSAGE("seed " << first);
        const test::muted_log quiet; // shutdowns that do not wait report what they leave
        std::thread([] {}).join();   // with its first thread ThreadSanitizer starts one of its own
        {
            const thread_ledger cold; // what these let go of must not be counted below
            random_source warm(first);
            for (int i = 0; i < 50; ++i)
                live_and_die(warm);
        }
        const ledger same;
        const int n = rounds(2'000);
        for (int i = 0; i < n; ++i) {
            const std::uint64_t mine = first + static_cast<std::uint64_t>(i);
            CAPTURE(mine);
            random_source r(mine);
            live_and_die(r);
        }
    }

    TEST_CASE("hundreds of thousands of aborts in any moment") {
        const std::uint64_t first = seed();
        MESSAGE("seed " << first);
        const ledger same;
        const int total = rounds(100'000); // of each layout
        for (const magpie::runtime_builder& b : {test::multi_thread(2), test::thread_per_core(2)}) {
            std::atomic<int> ended{0};
            const auto w = std::make_shared<world>();
            const runtime rt = b.build();
            auto spawner = [](shared_world of, std::uint64_t s, int n,
                              std::atomic<int>& count) -> task<> {
                random_source r(s);
                std::vector<join_handle<>> live;
                for (int i = 0; i < n; ++i) {
                    live.push_back(
                        magpie::spawn(wait_somehow(of, below(r, kinds_of_wait), r(), counted())));
                    if (below(r, 4) == 0)
                        co_await magpie::yield_now();
                    if (live.size() < 16 && i + 1 < n)
                        continue;
                    const bool at_once = below(r, 2) == 0;
                    for (const auto& h : live) {
                        h.abort();
                        if (!at_once && below(r, 8) == 0)
                            co_await magpie::yield_now();
                    }
                    for (auto& h : live) {
                        const auto end = co_await magpie::as_result(h);
                        static_cast<void>(end); // it may have been faster
                        count.fetch_add(1, std::memory_order_relaxed);
                    }
                    live.clear();
                }
            };
            std::vector<join_handle<>> spawners;
            for (std::uint64_t i = 0; i < 4; ++i)
                spawners.push_back(rt.spawn(spawner(w, first + i, total / 5, ended)));
            // A thread that is none of the runtime's.
            random_source r(first + 4);
            std::vector<join_handle<>> live;
            for (int i = 0; i < total / 5; ++i) {
                live.push_back(rt.spawn(wait_somehow(w, below(r, kinds_of_wait), r(), counted())));
                if (live.size() < 16 && i + 1 < total / 5)
                    continue;
                for (const auto& h : live)
                    h.abort();
                for (auto& h : live) {
                    REQUIRE(test::ends(h));
                    ended.fetch_add(1, std::memory_order_relaxed);
                }
                live.clear();
            }
            for (auto& h : spawners)
                h.blocking_join();
            CHECK(ended == total / 5 * 5);
        }
    }

    TEST_CASE("tasks that throw from everywhere: each failure is told once") {
        struct thrown {};
        struct throws_when_moved {
            explicit throws_when_moved(int n) noexcept : moves_left(n) {}
            throws_when_moved(throws_when_moved&& other) : moves_left(other.moves_left - 1) {
                if (moves_left < 0)
                    throw thrown();
            }
            counted count;
            int moves_left;
        };
        struct throws_at_end {
            ~throws_at_end() noexcept(false) { throw thrown(); }
            counted count;
        };
        const std::uint64_t first = seed();
        MESSAGE("seed " << first);
        const ledger same;
        for (magpie::runtime_builder b : {test::multi_thread(2), test::thread_per_core(2)}) {
            std::atomic<long> unhandled{0};
            std::atomic<long> expected{0};
            std::atomic<long> received{0};
            b.on_unhandled_exception([&](const magpie::unhandled_exception&) {
                unhandled.fetch_add(1, std::memory_order_relaxed);
            });
            const auto w = std::make_shared<world>();
            std::optional<runtime> rt(b.build());
            // block_in_place, the last kind, is for multi_thread.
            const std::uint64_t kinds = rt->layout() == magpie::layout::multi_thread ? 16 : 15;
            auto one = [](shared_world, std::uint64_t how, counted) -> task<> {
                const counted here;
                auto fails = [](bool later, counted) -> task<int> {
                    if (later)
                        co_await magpie::yield_now();
                    throw thrown();
                };
                switch (how) {
                case 0: throw thrown();
                case 1: co_await magpie::yield_now(); throw thrown();
                case 2: static_cast<void>(co_await fails(true, counted())); break;
                case 3: co_await magpie::join(fails(false, counted()), magpie::yield_now()); break;
                case 4: co_await magpie::try_join(fails(true, counted()), magpie::sleep_for(1h)); break;
                case 5: {
                    auto r = co_await magpie::select(fails(true, counted()), magpie::sleep_for(1h));
                    static_cast<void>(r);
                    break;
                }
                case 6: static_cast<void>(co_await magpie::timeout(1h, fails(true, counted()))); break;
                case 7: {
                    auto body = [&](magpie::task_scope& s) -> task<> {
                        s.spawn(fails(true, counted())).detach();
                        co_await magpie::sleep_for(1h);
                    };
                    co_await magpie::scope(body);
                    break;
                }
                case 8:
                    co_await magpie::fork_join(fails(true, counted()), fails(false, counted()));
                    break;
                case 9: {
                    auto call = [c = counted()] { throw thrown(); };
                    co_await magpie::spawn_blocking(std::move(call));
                    break;
                }
                case 10: {
                    auto body = [](counted&) -> task<> { co_await magpie::yield_now(); };
                    auto teardown = [](counted&) -> task<> {
                        co_await magpie::yield_now();
                        throw thrown();
                    };
                    co_await magpie::with(counted(), body, teardown);
                    break;
                }
                case 11: {
                    auto [tx, rx] = ms::mpsc::channel<throws_when_moved>(2);
                    auto r = co_await tx.send(throws_when_moved(0));
                    static_cast<void>(r);
                    break;
                }
                case 12: {
                    const throws_at_end at_end;
                    co_await magpie::yield_now();
                    break;
                }
                case 13: {
                    magpie::join_set<int> set;
                    set.spawn(fails(true, counted()));
                    static_cast<void>(co_await set.join_next());
                    break;
                }
                case 14: {
                    ms::once_cell<int> cell;
                    auto make = [&] { return fails(true, counted()); };
                    static_cast<void>(co_await cell.get_or_init(make));
                    break;
                }
                default: magpie::block_in_place([] { throw thrown(); });
                }
            };
            random_source r(first);
            const int n = rounds(5'000);
            for (int i = 0; i < n; i += 16) {
                std::vector<join_handle<>> live;
                for (int k = 0; k < 16; ++k) {
                    const std::uint64_t how = below(r, kinds);
                    auto h = rt->spawn(one(w, how, counted()));
                    expected.fetch_add(1, std::memory_order_relaxed);
                    if (below(r, 2) == 0)
                        h.detach();
                    else
                        live.push_back(std::move(h));
                }
                for (auto& h : live) {
                    try {
                        h.blocking_join();
                    } catch (const thrown&) {
                        received.fetch_add(1, std::memory_order_relaxed);
                    }
                }
            }
            CHECK(rest());
            rt.reset();
            CHECK(received + unhandled >=
                  expected); // a second failure of one task is told to the hook as well
            CHECK(received > 0);
        }
    }
}
