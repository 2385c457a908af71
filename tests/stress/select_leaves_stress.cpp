// Selects at random over every kind of wait that has something to lose: what has lost is still where it
// was, nothing is lost, nothing comes twice, and each order is kept.

#include <test/io.hpp>
#include <test/limits.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::task;
using magpie::when;

namespace {

namespace io = magpie::io;
namespace sync = magpie::sync;

constexpr std::size_t selectors = 2;

/// The branches of each select, by what they wait for. The last one is there so that none waits for long.
enum leaf_kind : std::size_t {
    mpsc_receive,
    mpsc_send,
    mpmc_receive,
    rendezvous_receive,
    broadcast_receive,
    watch_change,
    oneshot_receive,
    mutex_lock,
    shared_lock,
    semaphore_permit,
    notified,
    accepted,
    stream_read,
    stream_write,
    handle_join,
    set_join,
    timer_end,
    interval_tick,
    kinds,
};
constexpr std::array<const char*, kinds> names = {
    "mpsc recv",    "mpsc send", "mpmc recv",   "rendezvous recv", "broadcast recv", "watch changed",
    "oneshot recv", "lock",      "lock_shared", "acquire",         "notified",       "accept",
    "read",         "write",     "join handle", "join_next",       "timer",          "tick"};

/// What the tasks that select compete for.
struct shared_sources {
    sync::mutex lock;
    long under_lock = 0;
    sync::shared_mutex shared_lock;
    long under_shared_lock = 0;
    sync::semaphore places{1};
    sync::notify bell;
    io::tcp_listener listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
    // These order nothing: what they count is compared when the tasks have ended.
    std::atomic<int> rung{0};
    std::atomic<int> heard{0};
    std::atomic<int> connected{0};
    std::atomic<int> into_mpmc{0};
    std::atomic<std::size_t> selecting{selectors};
    std::atomic<int> wrong{0}; // out of order, twice, or not at all

    bool stopped() const { return selecting.load(std::memory_order_relaxed) == 0; }
};

/// What one of them has taken and given, and what its feeders have given and taken.
struct counts {
    std::array<int, kinds> won{};
    int selects = 0;
    int into_mpsc = 0;
    int out_of_mpsc = 0;
    int into_rendezvous = 0;
    int into_broadcast = 0;
    int into_watch = 0;
    int last_of_watch = 0;
    int oneshots = 0;
    int handles = 0;
    int in_set = 0;
    std::size_t bytes_in = 0;
    std::size_t bytes_read = 0;
    std::size_t bytes_out = 0;
    std::size_t bytes_written = 0;
};

char text_at(std::size_t place) { return static_cast<char>('a' + place * 31 % 26); }

// --- who feeds, until the selects are over ---

/// Sends 0, 1, 2, ... `count` is how many have arrived in the channel.
template <class Sender, class Count>
task<> send_numbers(Sender tx, Count& count, shared_sources& s) {
    for (int n = 0; !s.stopped(); ++n) {
        int value = n;
        if (!co_await tx.send(std::move(value)))
            ++s.wrong;
        ++count;
        co_await magpie::yield_now();
    }
}

task<> change(sync::watch::sender<int> tx, int& last, shared_sources& s) {
    while (!s.stopped()) {
        static_cast<void>(tx.send(++last));
        co_await magpie::yield_now();
    }
}

task<> take_numbers(sync::mpsc::receiver<int> rx, int& count, shared_sources& s) {
    for (;;) {
        const std::optional<int> n = co_await rx.recv();
        if (!n)
            co_return;
        if (*n != count)
            ++s.wrong;
        ++count;
        co_await magpie::yield_now();
    }
}

task<> hold_locks(shared_sources& s) {
    while (!s.stopped()) {
        {
            const auto one = co_await s.lock.lock();
            co_await magpie::yield_now();
        }
        const auto other = co_await s.shared_lock.lock();
        ++s.under_shared_lock;
        co_await magpie::yield_now();
    }
}

/// Rings again when the last time was heard: `notify` keeps one call, not several.
task<> ring(shared_sources& s) {
    while (!s.stopped()) {
        if (s.rung == s.heard) {
            ++s.rung;
            s.bell.notify_one();
        }
        co_await magpie::yield_now();
    }
}

/// Connects, and waits until the other end goes.
task<> connect(shared_sources& s) {
    std::array<std::byte, 1> nothing;
    while (!s.stopped()) {
        auto stream = co_await io::tcp_stream::connect(s.listener.local_endpoint());
        ++s.connected;
        stream.set_linger(0s); // a reset, and no TIME_WAIT that uses ports up
        static_cast<void>(co_await magpie::as_result(stream.read(nothing)));
    }
}

task<> write_text(io::owned_write_half to, std::size_t& written, shared_sources& s,
                  std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string piece;
    while (!s.stopped()) {
        piece.clear();
        for (std::size_t n = random() % 50 + 1; n > 0; --n)
            piece.push_back(text_at(written + piece.size()));
        co_await to.write_all(test::bytes(piece));
        written += piece.size();
        co_await magpie::yield_now();
    }
}

task<> read_text(io::owned_read_half from, std::size_t& got, shared_sources& s) {
    std::array<char, 64> buffer;
    for (;;) {
        const std::size_t n = co_await from.read(std::as_writable_bytes(std::span(buffer)));
        if (n == 0)
            co_return;
        for (std::size_t i = 0; i < n; ++i)
            if (buffer[i] != text_at(got++))
                ++s.wrong;
        co_await magpie::yield_now();
    }
}

task<int> child(unsigned yields) {
    for (unsigned i = 0; i < yields; ++i)
        co_await magpie::yield_now();
    co_return 1;
}

task<> send_later(sync::oneshot::sender<int> tx, unsigned yields) {
    static_cast<void>(co_await child(yields));
    static_cast<void>(tx.send(1));
}

/// One task that selects.
class selector {
public:
    selector(shared_sources& s, counts& c, sync::mpmc::receiver<int> many, std::uint64_t seed)
        : s_(s), c_(c), random_(seed), many_(std::move(many)) {}

    /// Longer if something has not come yet: another thread may have had the only core all the time.
    task<> run(int rounds) {
        std::vector<join_handle<>> feeders = co_await begin();
        while (c_.selects < rounds || std::ranges::find(c_.won, 0) != c_.won.end()) {
            renew();
            ++c_.selects;
            if (die(2) == 0)
                co_await one();
            else
                co_await one_in_another();
        }
        // From here on the other one may still select.
        s_.selecting.fetch_sub(1, std::memory_order_relaxed);
        while (!s_.stopped())
            co_await magpie::yield_now();
        co_await drain();
        for (join_handle<>& f : feeders)
            co_await f;
        c_.last_of_watch = *state_->borrow();
    }

private:
    unsigned die(unsigned sides) { return static_cast<unsigned>(random_() % sides); }
    bool some() { return die(4) == 0; }
    void expect(bool right) { s_.wrong += right ? 0 : 1; }

    task<std::vector<join_handle<>>> begin() {
        std::vector<join_handle<>> feeders;
        auto in = sync::mpsc::channel<int>(3);
        in_.emplace(std::move(in.rx));
        feeders.push_back(magpie::spawn(send_numbers(std::move(in.tx), c_.into_mpsc, s_)));
        auto out = sync::mpsc::channel<int>(2);
        out_.emplace(std::move(out.tx));
        feeders.push_back(magpie::spawn(take_numbers(std::move(out.rx), c_.out_of_mpsc, s_)));
        auto meets = sync::rendezvous::channel<int>();
        meets_.emplace(std::move(meets.rx));
        feeders.push_back(magpie::spawn(send_numbers(std::move(meets.tx), c_.into_rendezvous, s_)));
        auto news = sync::broadcast::channel<int>(4, sync::slow_receiver::delays);
        news_.emplace(std::move(news.rx));
        feeders.push_back(magpie::spawn(send_numbers(std::move(news.tx), c_.into_broadcast, s_)));
        auto state = sync::watch::channel<int>(0);
        state_.emplace(std::move(state.rx));
        feeders.push_back(magpie::spawn(change(std::move(state.tx), c_.into_watch, s_)));
        auto pair = co_await test::connected();
        stream_ = std::move(pair.here);
        auto there = io::into_halves(std::move(pair.there));
        feeders.push_back(
            magpie::spawn(write_text(std::move(there.write), c_.bytes_in, s_, random_())));
        feeders.push_back(magpie::spawn(read_text(std::move(there.read), c_.bytes_written, s_)));
        co_return feeders;
    }

    /// What is waited for once is made anew when it has come.
    void renew() {
        place_.reset();
        if (!handle_) {
            handle_ = magpie::spawn(child(die(4)));
            ++c_.handles;
        }
        if (set_.size() < 3) {
            set_.spawn(child(die(4)));
            ++c_.in_set;
        }
        if (!one_) {
            auto ends = sync::oneshot::channel<int>();
            one_.emplace(std::move(ends.rx));
            magpie::spawn(send_later(std::move(ends.tx), die(4))).detach();
            ++c_.oneshots;
        }
        number_ = c_.won[mpsc_send];
        text_.clear();
        for (std::size_t n = die(40) + 1; n > 0; --n)
            text_.push_back(text_at(c_.bytes_out + text_.size()));
    }

    // What came.

    void number(leaf_kind k, std::optional<int> n) { expect(n.has_value() && *n == c_.won[k]); }
    void changed(bool open) {
        const int now = *state_->borrow_and_update();
        expect(open && now > seen_);
        seen_ = now;
    }
    void got(std::size_t n) {
        expect(n > 0);
        for (std::size_t i = 0; i < n; ++i)
            expect(buffer_[i] == text_at(c_.bytes_read++));
    }
    void ticked(magpie::clock::time_point due) {
        expect(last_tick_ == magpie::clock::time_point() || due == last_tick_ + every_.period());
        last_tick_ = due;
    }

    /// One select of some of them.
    task<> one() {
        auto r = co_await magpie::select(
            when(some(), in_->recv()), when(some(), out_->send(std::move(number_))),
            when(some(), many_.recv()), when(some(), meets_->recv()), when(some(), news_->recv()),
            when(some(), state_->changed()), when(some(), one_->recv()), when(some(), s_.lock.lock()),
            when(some(), s_.shared_lock.lock_shared()), when(some(), s_.places.acquire()),
            when(some(), s_.bell.notified()), when(some(), s_.listener.accept()),
            when(some(), stream_.read(std::as_writable_bytes(std::span(buffer_)))),
            when(some(), stream_.write(test::bytes(text_))), when(some(), handle_),
            when(some(), set_.join_next()), when(some(), timer_), when(some(), every_.tick()),
            magpie::yield_now());
        switch (r.index()) {
        case mpsc_receive: number(mpsc_receive, r.template get<mpsc_receive>()); break;
        case mpsc_send: expect(static_cast<bool>(r.template get<mpsc_send>())); break;
        case mpmc_receive: expect(r.template get<mpmc_receive>().has_value()); break;
        case rendezvous_receive:
            number(rendezvous_receive, r.template get<rendezvous_receive>());
            break;
        case broadcast_receive: {
            const auto& n = r.template get<broadcast_receive>();
            expect(n.has_value() && *n == c_.won[broadcast_receive]);
            break;
        }
        case watch_change: changed(r.template get<watch_change>()); break;
        case oneshot_receive:
            expect(r.template get<oneshot_receive>() == 1);
            one_.reset();
            break;
        case mutex_lock: ++s_.under_lock; break; // `r` has the guard
        case shared_lock: break;
        case semaphore_permit: {
            auto taken = std::move(r).template get<semaphore_permit>();
            expect(taken.has_value());
            place_.emplace(std::move(*taken));
            break;
        }
        case notified: ++s_.heard; break;
        case accepted: break; // `r` has the connection, which ends with it
        case stream_read: got(r.template get<stream_read>()); break;
        case stream_write: c_.bytes_out += r.template get<stream_write>(); break;
        case handle_join: handle_ = {}; break;
        case set_join: expect(r.template get<set_join>() == 1); break;
        case timer_end: timer_.reset(magpie::clock::now() + std::chrono::milliseconds(die(2))); break;
        case interval_tick: ticked(r.template get<interval_tick>()); break;
        default: co_return;
        }
        ++c_.won[r.index()];
    }

    /// Some of them below composites, in order: what is nested gives back as well.
    task<> one_in_another() {
        auto r = co_await magpie::select_biased(
            magpie::select(when(some(), in_->recv()), s_.bell.notified()),
            magpie::timeout(0s, many_.recv()), stop_.run_until_cancelled(s_.listener.accept()),
            magpie::unconstrained(stream_.read(std::as_writable_bytes(std::span(buffer_)).first(7))),
            when(some(), out_->send(std::move(number_))), magpie::yield_now());
        leaf_kind won = kinds;
        if (r.index() == 0 && r.template get<0>().index() == 0) {
            number(won = mpsc_receive, r.template get<0>().template get<0>());
        } else if (r.index() == 0) {
            won = notified;
            ++s_.heard;
        } else if (r.index() == 1 && r.template get<1>()) {
            won = mpmc_receive;
            expect(r.template get<1>()->has_value());
        } else if (r.index() == 2) {
            won = accepted;
            expect(r.template get<2>().has_value());
        } else if (r.index() == 3) {
            won = stream_read;
            got(r.template get<3>());
        } else if (r.index() == 4) {
            won = mpsc_send;
            expect(static_cast<bool>(r.template get<4>()));
        }
        if (won != kinds)
            ++c_.won[won];
    }

    /// Takes what is still there, to the end of each.
    task<> drain() {
        for (;;) {
            const auto n = co_await in_->recv();
            if (!n)
                break;
            number(mpsc_receive, n);
            ++c_.won[mpsc_receive];
        }
        out_.reset();
        for (;;) {
            const auto n = co_await many_.recv();
            if (!n)
                break;
            ++c_.won[mpmc_receive];
        }
        for (;;) {
            const auto n = co_await meets_->recv();
            if (!n)
                break;
            number(rendezvous_receive, n);
            ++c_.won[rendezvous_receive];
        }
        for (;;) {
            const auto n = co_await news_->recv();
            if (!n)
                break;
            expect(*n == c_.won[broadcast_receive]++);
        }
        if (one_) {
            expect(co_await one_->recv() == 1);
            ++c_.won[oneshot_receive];
        }
        stream_.shutdown(io::shutdown_side::write);
        for (;;) {
            const auto n = co_await stream_.read(std::as_writable_bytes(std::span(buffer_)));
            if (n == 0)
                break;
            got(n);
        }
        if (handle_) {
            co_await handle_;
            ++c_.won[handle_join];
        }
        for (;;) {
            const auto n = co_await set_.join_next();
            if (!n)
                break;
            ++c_.won[set_join];
        }
        place_.reset();
    }

    shared_sources& s_;
    counts& c_;
    std::mt19937_64 random_;
    sync::mpmc::receiver<int> many_;
    std::optional<sync::mpsc::receiver<int>> in_;
    std::optional<sync::mpsc::sender<int>> out_;
    std::optional<sync::rendezvous::receiver<int>> meets_;
    std::optional<sync::broadcast::receiver<int>> news_;
    std::optional<sync::watch::receiver<int>> state_;
    std::optional<sync::oneshot::receiver<int>> one_;
    std::optional<sync::semaphore::permit> place_;
    io::tcp_stream stream_;
    join_handle<int> handle_;
    magpie::join_set<int> set_;
    magpie::timer timer_{0s};
    magpie::interval every_{1ms};
    magpie::clock::time_point last_tick_;
    magpie::cancellation_token stop_;
    std::array<char, 30> buffer_;
    std::string text_;
    int number_ = 0;
    int seen_ = 0;
};

task<> select_for_a_while(shared_sources& s, counts& c, sync::mpmc::receiver<int> many,
                          std::uint64_t seed, int rounds) {
    selector all(s, c, std::move(many), seed);
    co_await all.run(rounds);
}

task<> select_all(std::optional<shared_sources>& sources, std::vector<counts>& seen, std::uint64_t seed,
                  int rounds) {
    shared_sources& s = sources.emplace();
    auto many = sync::mpmc::channel<int>(2);
    std::vector<join_handle<>> feeders;
    feeders.push_back(magpie::spawn(send_numbers(std::move(many.tx), s.into_mpmc, s)));
    feeders.push_back(magpie::spawn(hold_locks(s)));
    feeders.push_back(magpie::spawn(ring(s)));
    std::vector<join_handle<>> selecting;
    for (counts& c : seen)
        selecting.push_back(magpie::spawn(select_for_a_while(s, c, many.rx, seed++, rounds)));
    join_handle<> connector = magpie::spawn(connect(s));
    for (join_handle<>& h : selecting)
        co_await h;
    for (;;) {
        auto r = co_await magpie::select(connector, s.listener.accept());
        if (r.index() == 0)
            break;
        ++seen[0].won[accepted];
    }
    for (join_handle<>& h : feeders)
        co_await h;
    if (s.rung != s.heard) { // it was kept
        co_await s.bell.notified();
        ++s.heard;
    }
    s.listener = {};
}

/// How many selects, all in all: as many as MAGPIE_SELECTS says.
int wanted() {
    const char* const text = std::getenv("MAGPIE_SELECTS");
    return text != nullptr ? std::stoi(text) : test::scaled(600'000);
}

} // namespace

TEST_SUITE("stress.select_leaves") {
    TEST_CASE(
        "SCOPE-09 SCOPE-10 selects at random over every leaf: nothing is lost, nothing comes twice") {
        const std::uint64_t seed = std::random_device()();
        CAPTURE(seed);
        const int rounds = wanted() / 3 / static_cast<int>(selectors);
        test::on_each_layout([&](magpie::runtime_builder builder) {
            std::optional<shared_sources> sources;
            std::vector<counts> seen(selectors);
            {
                magpie::runtime rt = builder.build();
                auto in_time = [](task<> t) -> task<bool> {
                    co_return co_await magpie::timeout(10min, std::move(t));
                };
                REQUIRE(rt.block_on(in_time(select_all(sources, seen, seed, rounds))));
            }
            const shared_sources& s = *sources;
            CHECK(s.wrong == 0);
            std::array<int, kinds> won{};
            for (const counts& c : seen) {
                CHECK(c.selects >= rounds);
                CHECK(c.won[mpsc_receive] == c.into_mpsc);
                CHECK(c.won[mpsc_send] == c.out_of_mpsc);
                CHECK(c.won[rendezvous_receive] == c.into_rendezvous);
                CHECK(c.won[broadcast_receive] == c.into_broadcast);
                CHECK(c.last_of_watch == c.into_watch);
                CHECK(c.won[oneshot_receive] == c.oneshots);
                CHECK(c.won[handle_join] == c.handles);
                CHECK(c.won[set_join] == c.in_set);
                CHECK(c.bytes_read == c.bytes_in);
                CHECK(c.bytes_written == c.bytes_out);
                for (std::size_t k = 0; k < kinds; ++k)
                    won[k] += c.won[k];
            }
            CHECK(won[mpmc_receive] == s.into_mpmc);
            CHECK(won[mutex_lock] == s.under_lock);
            CHECK_FALSE(s.lock.is_locked());
            CHECK(s.places.available_permits() == 1);
            CHECK(s.heard == s.rung);
            CHECK(won[accepted] == s.connected);
            for (std::size_t k = 0; k < kinds; ++k) {
                INFO(names[k]);
                CHECK(won[k] > 0);
            }
        });
    }
}
