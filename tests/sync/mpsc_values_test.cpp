// Values that make trouble: their moves and destructors throw, or use the channel; and the memory they are in.

#include <magpie/sync/mpsc.hpp>

#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/timeout.hpp>

#include <test/counting.hpp>
#include <test/run.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::send_result;
using test::counting;
namespace mpsc = magpie::sync::mpsc;

namespace {

/// One that cannot be moved while it says so.
class brittle {
public:
    explicit brittle(int v) noexcept : value(v) {}
    brittle(brittle&& other) : value(other.value) {
        if (throws)
            throw std::runtime_error("cannot be moved");
    }
    brittle(const brittle& other) : value(other.value) {
        if (throws)
            throw std::runtime_error("cannot be copied");
    }
    brittle& operator=(const brittle&) = default;

    static inline bool throws = false;
    int value;
};

/// One whose destructor throws, if it is told to.
class bomb {
public:
    explicit bomb(bool armed) noexcept : armed_(armed) { ++alive; }
    bomb(bomb&& other) noexcept : armed_(std::exchange(other.armed_, false)) { ++alive; }
    ~bomb() noexcept(false) {
        --alive;
        if (armed_)
            throw std::runtime_error("bang");
    }

    static inline int alive = 0;

private:
    bool armed_;
};

/// One that uses its channel whenever it is moved or destroyed.
class busy {
public:
    busy(const mpsc::sender<busy>* tx, mpsc::receiver<busy>* rx) noexcept : tx_(tx), rx_(rx) { look(); }
    busy(busy&& other) noexcept : tx_(other.tx_), rx_(other.rx_) { look(); }
    busy& operator=(busy&& other) noexcept {
        tx_ = other.tx_;
        rx_ = other.rx_;
        return *this;
    }
    ~busy() { look(); }

private:
    void look() noexcept {
        if (tx_ != nullptr && tx_->capacity() > 0) {
            auto place = tx_->try_reserve();
            if (place)
                place->release();
        }
        if (rx_ != nullptr)
            static_cast<void>(rx_->size());
    }

    const mpsc::sender<busy>* tx_;
    mpsc::receiver<busy>* rx_;
};

/// One that sends another when it is destroyed.
class echo {
public:
    echo(const mpsc::unbounded_sender<echo>* tx, int generations) noexcept
        : tx_(tx), generations_(generations) {}
    echo(echo&& other) noexcept
        : tx_(std::exchange(other.tx_, nullptr)), generations_(other.generations_) {}
    ~echo() {
        if (tx_ != nullptr && generations_ > 0)
            static_cast<void>(tx_->send(echo(tx_, generations_ - 1)));
    }

private:
    const mpsc::unbounded_sender<echo>* tx_;
    int generations_;
};

template <class T>
task<std::optional<T>> receive(mpsc::receiver<T>& rx) {
    co_return co_await rx.recv();
}

} // namespace

TEST_SUITE("sync.mpsc_values") {
    TEST_CASE("SYNC-MPSC-51 a destructor that throws does not keep the others from being destroyed") {
        bomb::alive = 0;
        {
            std::optional<mpsc::receiver<bomb>> rx;
            auto ends = mpsc::channel<bomb>(100);
            rx.emplace(std::move(ends.rx));
            for (int i = 0; i < 40; ++i)
                CHECK(ends.tx.try_send(bomb(i == 3 || i == 35)));
            CHECK(bomb::alive == 40);
            bool thrown = false;
            try {
                const mpsc::receiver<bomb> goes = *std::move(rx);
                static_cast<void>(goes);
            } catch (const std::runtime_error&) {
                thrown = true;
            }
            CHECK(thrown);
            CHECK(ends.tx.is_closed());
        }
        CHECK(bomb::alive == 0);
    }

    TEST_CASE("a move that throws sends nothing, and leaves the channel as it was") {
        auto [tx, rx] = mpsc::channel<brittle>(2);
        test::manual_executor ex;
        brittle b(1);
        brittle::throws = true;
        CHECK_THROWS_AS(static_cast<void>(tx.try_send(std::move(b))), std::runtime_error);
        auto f = [](const mpsc::sender<brittle>& s, const brittle& v) -> task<> {
            const send_result r = co_await s.send(v);
            static_cast<void>(r);
        };
        CHECK_THROWS_AS(test::run(ex, f(tx, b)), std::runtime_error);
        auto place = tx.try_reserve();
        CHECK_THROWS_AS(static_cast<void>(place->send(b)), std::runtime_error);
        CHECK(place->size() == 1);
        brittle::throws = false;
        CHECK(rx.empty());
        CHECK(place->send(b));
        CHECK(tx.try_send(brittle(2)));
        CHECK(rx.try_recv()->value == 1);
        CHECK(rx.try_recv()->value == 2);
        CHECK(tx.capacity() == 2);
    }

    TEST_CASE("a move that throws in a receive comes out there, and that value is gone") {
        auto [tx, rx] = mpsc::channel<brittle>(2);
        test::manual_executor ex;
        CHECK(tx.try_send(brittle(1)));
        CHECK(tx.try_send(brittle(2)));
        brittle::throws = true;
        CHECK_THROWS_AS(test::run(ex, receive(rx)), std::runtime_error);
        brittle::throws = false;
        CHECK(test::run(ex, receive(rx))->value == 2);
        CHECK(tx.capacity() == 2);
    }

    TEST_CASE("a send that waited, and whose move throws, gives its place to the next") {
        auto [tx, rx] = mpsc::channel<brittle>(1);
        test::manual_executor ex;
        CHECK(tx.try_send(brittle(1)));
        auto f = [](const mpsc::sender<brittle>& s, brittle v) -> task<> {
            const send_result r = co_await s.send(std::move(v));
            static_cast<void>(r);
        };
        auto first = ex.spawn(f(tx, brittle(2)));
        ex.run_until_idle();
        auto second = ex.spawn(f(tx, brittle(3)));
        ex.run_until_idle();
        CHECK(rx.try_recv()->value == 1);
        brittle::throws = true;
        CHECK(ex.run_one());
        brittle::throws = false;
        ex.run_until_idle();
        CHECK_THROWS_AS(first.blocking_join(), std::runtime_error);
        CHECK(second.is_finished());
        CHECK(rx.try_recv()->value == 3);
    }

    TEST_CASE("values may use their channel while they are moved and destroyed") {
        auto ends = mpsc::channel<busy>(4);
        for (int i = 0; i < 3; ++i)
            CHECK(ends.tx.try_send(busy(&ends.tx, &ends.rx)));
        CHECK(ends.rx.try_recv().has_value());
        CHECK(ends.rx.blocking_recv().has_value());
        ends.rx.close();
        CHECK(ends.tx.try_send(busy(&ends.tx, nullptr)).is_closed());
        while (ends.rx.try_recv()) {}
    }

    TEST_CASE("values that send others while the receiver destroys them") {
        std::optional<mpsc::receiver<echo>> rx;
        auto ends = mpsc::unbounded_channel<echo>();
        rx.emplace(std::move(ends.rx));
        for (int i = 0; i < 10; ++i)
            CHECK(ends.tx.send(echo(&ends.tx, 3)));
        rx.reset();
        CHECK(ends.tx.is_closed());
    }

    TEST_CASE("values that are aligned beyond a cache line, and large ones") {
        struct alignas(256) wide {
            std::unique_ptr<int> p;
        };
        auto [tx, rx] = mpsc::channel<wide>(10);
        for (int i = 0; i < 10; ++i)
            CHECK(tx.try_send(wide{std::make_unique<int>(i)}));
        for (int i = 0; i < 10; ++i) {
            const std::optional<wide> w = rx.blocking_recv();
            CHECK(*w->p == i);
            CHECK(reinterpret_cast<std::uintptr_t>(&*w) % 256 == 0);
        }
        struct large {
            char bytes[5000];
        };
        auto big = mpsc::channel<large>(3);
        for (int i = 0; i < 20; ++i) {
            CHECK(big.tx.try_send(large{{static_cast<char>(i)}}));
            CHECK(big.rx.try_recv()->bytes[0] == i);
        }
    }

    TEST_CASE("a receive that had ended in a dropped join gives its value back, in its place") {
        test::manual_executor ex;
        auto run = [&]<class T>(T) {
            auto values = mpsc::channel<T>(100);
            auto never = mpsc::channel<T>(1);
            for (int i = 0; i < 70; ++i)
                CHECK(values.tx.try_send(T(i)));
            auto f = [](mpsc::receiver<T>& x, mpsc::receiver<T>& y) -> task<bool> {
                auto r = co_await magpie::timeout(1s, magpie::join(x.recv(), y.recv()));
                co_return r.has_value();
            };
            auto h = ex.spawn(f(values.rx, never.rx));
            ex.run_until_idle();
            CHECK(values.rx.size() == 69);
            // Others are received meanwhile, past the end of its block.
            for (int i = 1; i < 40; ++i)
                CHECK(*values.rx.try_recv() == T(i));
            ex.advance(2s);
            CHECK(h.blocking_join() == false);
            CHECK(values.rx.size() == 31);
            CHECK(*values.rx.try_recv() == T(0));
            for (int i = 40; i < 70; ++i)
                CHECK(*values.rx.try_recv() == T(i));
            CHECK(values.tx.capacity() == 100);
        };
        SUBCASE("copied under the lock") { run(int(0)); }
        SUBCASE("moved outside") {
            struct number {
                explicit number(int n) : digits(std::to_string(n)) {}
                bool operator==(const number&) const = default;
                std::string digits;
            };
            run(number(0));
        }
    }

    TEST_CASE("two branches of one task may pass a value to each other") {
        auto [tx, rx] = mpsc::channel<std::string>(1);
        test::manual_executor ex;
        auto f = [](const mpsc::sender<std::string>& s,
                    mpsc::receiver<std::string>& r) -> task<std::string> {
            auto both = co_await magpie::join(r.recv(), s.send("hello"));
            co_return *std::get<0>(both);
        };
        CHECK(test::run(ex, f(tx, rx)) == "hello");
        CHECK(tx.capacity() == 1);
    }

    TEST_CASE("SCOPE-25 after a burst of a million messages an idle channel has one block") {
#if defined(MAGPIE_NO_FRAME_ALLOCATOR)
        constexpr bool recycled = false; // every block goes back at once: a sanitizer looks for leaks
#else
        constexpr bool recycled = true;
#endif
        magpie::detail::trim_frames();
        const std::size_t before = magpie::detail::reserved_frame_bytes();
        auto [tx, rx] = mpsc::unbounded_channel<std::uint64_t>();
        for (std::uint64_t i = 0; i < 1'000'000; ++i)
            CHECK_UNARY(static_cast<bool>(tx.send(i)));
        if (recycled)
            CHECK(magpie::detail::reserved_frame_bytes() > before + 8'000'000);
        for (std::uint64_t i = 0; i < 1'000'000; ++i)
            if (*rx.try_recv() != i)
                FAIL_CHECK("out of order");
        magpie::detail::trim_frames();
        // A block of the state's size and one of values, each in a chunk of 256 KiB of its own.
        CHECK(magpie::detail::reserved_frame_bytes() <= before + 2 * 256 * 1024);
    }
}
