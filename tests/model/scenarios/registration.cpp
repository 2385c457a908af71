// A descriptor's registration: reads against events, drops, other waits, and the end of the runtime.

#include "support.hpp"

#include <io/src/registration_pool.hpp>
#include <magpie/io/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <sys/epoll.h>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::io::detail::attempt;
using magpie::io::detail::io_operation;
using magpie::io::detail::look;
using magpie::io::detail::registration;
using magpie::io::detail::registration_page;
namespace waits_for = magpie::io::detail::waits_for;

/// A stream as the kernel has it: what it holds, and which events it has not told yet.
class stream {
public:
    stream() {
        magpie_model::name(this, sizeof *this, "stream");
        known.open(0, false);
    }

    void send(unsigned n) {
        magpie_model::step("send", this, [&] {
            held_ += n;
            events_ |= EPOLLIN;
        });
    }
    /// Data and the end of the stream, before anybody has looked.
    void send_last(unsigned n) {
        magpie_model::step("send last", this, [&] {
            held_ += n;
            ended_ = true;
            events_ |= EPOLLIN | EPOLLRDHUP;
        });
    }
    /// The system call: what there is, or 0 at the end, or nothing.
    std::optional<unsigned> receive(unsigned most) {
        std::optional<unsigned> n;
        magpie_model::step("receive", this, [&] {
            if (held_ > 0 || ended_)
                n = std::min(held_, most);
            held_ -= n.value_or(0);
        });
        return n;
    }

    /// What the driver does: tells events, until everybody has ended.
    void drive(executor& ex) {
        for (std::uint64_t tick = 1;; ++tick) {
            magpie_model::step_when([&] { return events_ != 0 || ex.is_over(); }, "wait", this);
            if (events_ == 0)
                return;
            known.dispatch(std::exchange(events_, 0), tick);
        }
    }

    unsigned held() const noexcept { return held_; }

private:
    registration_page page_{nullptr, 0};

public:
    registration& known = page_.all[0];

private:
    unsigned held_ = 0;
    bool ended_ = false;
    std::uint32_t events_ = 0;
};

class read_operation : public io_operation {
public:
    read_operation(stream& s, unsigned most) noexcept
        : io_operation(&s.known, waits_for::read), stream_(&s), most_(most) {}
    read_operation(read_operation&&) noexcept = default;

    int await_resume() const noexcept { return static_cast<int>(result_); }

private:
    attempt perform(int) noexcept override {
        const std::optional<unsigned> n = stream_->receive(most_);
        if (!n)
            return attempt::would_block;
        result_ = *n;
        return *n > 0 && *n < most_ ? attempt::drained : attempt::done;
    }

    stream* stream_;
    unsigned most_;
};

/// Waits for one of several conditions.
class either_operation : public io_operation {
public:
    explicit either_operation(stream& s) noexcept
        : io_operation(&s.known, waits_for::read | waits_for::priority) {}
    either_operation(either_operation&&) noexcept = default;

    void await_resume() const noexcept {}

private:
    attempt perform(int) noexcept override {
        result_ = 0;
        return attempt::done;
    }
};

magpie::task<> read_until(stream& s, unsigned wanted, unsigned most, unsigned& got, tracked) {
    while (got < wanted) {
        const int n = co_await read_operation(s, most);
        if (n <= 0)
            break;
        got += static_cast<unsigned>(n);
    }
}

magpie::task<> wait_for_either(stream& s, int& passed, tracked) {
    co_await either_operation(s);
    ++passed;
}

// --- reads and events ---

scenario read("registration.read", [] {
    executor ex;
    stream s;
    unsigned got = 0;
    int destroyed = 0;
    ex.spawn(read_until(s, 3, 2, got, tracked(destroyed))).detach();
    thread("peer", [&] {
        s.send(1);
        s.send(2);
    });
    thread("driver", [&] { s.drive(ex); });
    thread("worker", [&] { ex.work(); });
    run();
    check(got == 3 && destroyed == 1, "everything was read");
});

mistake forgets_blindly(read, "a read forgets an event that came after its look",
                        {"registration::forget", "compare_exchange", how::unconditional});
mistake waits_blindly(read, "a waiter overwrites an event",
                      {"registration::enter", "compare_exchange", how::unconditional});
mistake set_in_two(read, "an event is a load and a store",
                   {"registration::set_word", "exchange", how::in_two});

scenario to_the_end("registration.end", [] {
    executor ex;
    stream s;
    unsigned got = 0;
    int destroyed = 0;
    ex.spawn(read_until(s, 9, 2, got, tracked(destroyed))).detach();
    thread("peer", [&] { s.send_last(1); });
    thread("driver", [&] { s.drive(ex); });
    thread("worker", [&] { ex.work(); });
    run();
    check(got == 1 && destroyed == 1, "what came with the end, and the end");
});

mistake no_flag(to_the_end, "an event does not keep that the stream has ended",
                {"registration::dispatch", "modify", how::left_out});

// --- two readers ---

/// `sent` bytes come with the end; the readers ask for `most` at a time.
void two_read_to_the_end(unsigned sent, unsigned most) {
    executor ex;
    stream s;
    unsigned first = 0;
    unsigned second = 0;
    int destroyed = 0;
    ex.spawn(read_until(s, 9, most, first, tracked(destroyed))).detach();
    ex.spawn(read_until(s, 9, most, second, tracked(destroyed))).detach();
    thread("peer", [&] { s.send_last(sent); });
    thread("driver", [&] { s.drive(ex); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(first + second == sent && destroyed == 2, "each byte was read once, and both saw the end");
}

scenario two_readers("registration.two_readers", {.preemptions = 2, .full = 3},
                     [] { two_read_to_the_end(2, 1); });

mistake second_waits_blindly(two_readers, "a second waiter does not look again after it has joined",
                             {"registration::see", "load", how::outdated});

// The first to read takes less than it asked for, so that it knows the stream to be empty; but the end of that stands
// there for the second, which may have looked before both came.
scenario two_short("registration.two_readers_short", {.preemptions = 2, .full = 3},
                   [] { two_read_to_the_end(1, 2); });

mistake end_not_kept(two_short, "an event does not keep that the stream has ended",
                     {"registration::dispatch", "modify", how::left_out});

// --- one reads, one waits for one of several conditions ---

scenario others("registration.others", [] {
    executor ex;
    stream s;
    int passed = 0;
    int destroyed = 0;
    ex.spawn(wait_for_either(s, passed, tracked(destroyed))).detach();
    thread("peer", [&] { s.send(1); });
    thread("driver", [&] { s.drive(ex); });
    thread("worker", [&] { ex.work(); });
    run();
    check(passed == 1 && destroyed == 1, "it is woken");
});

mistake no_recheck(others, "who joins the others does not look again",
                   {"registration::see", "load", how::outdated});
mistake not_asked(others, "an event does not look for others",
                  {"registration::dispatch", "load", how::outdated});

scenario dropped_other("registration.dropped_other", {.preemptions = 3, .full = 4}, [] {
    executor ex;
    stream s;
    int passed = 0;
    int destroyed = 0;
    auto handle = ex.spawn(wait_for_either(s, passed, tracked(destroyed)));
    thread("peer", [&] { s.send(1); });
    thread("driver", [&] { s.drive(ex); });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 1, "it was woken or dropped");
});

mistake stays_in(dropped_other, "a drop says quiet and leaves the leaf in the list",
                 {"registration::withdraw", "store", how::left_out});

// --- a reader is dropped ---

scenario drop("registration.drop", {.preemptions = 3, .full = 4}, [] {
    executor ex;
    stream s;
    unsigned got = 0;
    int destroyed = 0;
    auto handle = ex.spawn(read_until(s, 2, 2, got, tracked(destroyed)));
    thread("peer", [&] { s.send(2); });
    thread("driver", [&] { s.drive(ex); });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 1, "it has read or was dropped");
    check(got + s.held() == 2, "and nothing was lost");
});

mistake withdraws_blindly(drop, "a drop says quiet though the event has the leaf in hand",
                          {"registration::withdraw", "compare_exchange", how::unconditional});

// --- the runtime ends ---

scenario shutdown("registration.shutdown", {.preemptions = 3, .full = 4}, [] {
    executor ex;
    stream s;
    unsigned got = 0;
    int destroyed = 0;
    ex.spawn(read_until(s, 2, 2, got, tracked(destroyed))).detach();
    thread("peer", [&] { s.send(1); });
    thread("driver", [&] { s.drive(ex); });
    thread("shutdown", [&] { s.known.fail(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(destroyed == 1, "no wait is left");
});

mistake no_sign(shutdown, "the end of the runtime leaves no sign for later waits",
                {"registration::fail", "modify", how::left_out});

// --- a removed registration is used again ---

/// A descriptor in the kernel's set.
struct member {
    registration* known = nullptr;
    std::uint32_t events = 0;
};

/// One thread removes a descriptor and registers another, while the driver may have an event of the
/// first one in hand.
template <bool AtOnce>
void reuse_a_registration() {
    magpie::io::detail::registration_pool pool(nullptr);
    member set;
    registration& first = pool.take();
    first.open(1, false);
    set.known = &first;
    thread("peer", [&] { magpie_model::step("send", &set, [&] { set.events = EPOLLIN; }); });
    thread("driver", [&] {
        for (std::uint64_t tick = 1; tick <= 2; ++tick) {
            pool.reclaim();
            member batch;
            magpie_model::step("wait", &set, [&] { batch = std::exchange(set, member{set.known, 0}); });
            if (batch.events != 0 && batch.known != nullptr)
                batch.known->dispatch(batch.events, tick);
        }
    });
    registration* second = nullptr;
    thread("owner", [&] {
        magpie_model::step("remove", &set, [&] { set = member(); });
        if (AtOnce)
            pool.put_back(first);
        else
            pool.retire(first);
        second = &pool.take();
        second->open(2, false);
    });
    run();
    check(!registration::is_event(second->seen(registration::reading)),
          "the second descriptor does not get the first one's event");
}

scenario reuse("registration.reuse", &reuse_a_registration<false>);

mistake reused_at_once(reuse, "a registration is free as soon as it is removed",
                       &reuse_a_registration<true>);

// --- others: each condition by itself, and the end of the runtime ---

/// Waits for what is told.
class one_of : public io_operation {
public:
    one_of(registration& r, unsigned char what) noexcept : io_operation(&r, what) {}
    one_of(one_of&&) noexcept = default;

    void await_resume() const noexcept {}

private:
    attempt perform(int) noexcept override {
        result_ = 0;
        return attempt::done;
    }
};

magpie::task<> wait_for_one(registration& r, unsigned char what, int& passed) {
    co_await one_of(r, what);
    ++passed;
}

template <unsigned char What, class Tell>
void tell_others(const Tell& tell) {
    executor ex;
    registration_page page(nullptr, 0);
    registration& r = page.all[0];
    r.open(0, false);
    int passed = 0;
    ex.spawn(wait_for_one(r, What, passed)).detach();
    thread("driver", [&] { tell(r); });
    thread("worker", [&] { ex.work(); });
    run();
    check(passed == 1, "it is woken");
}

scenario other_writer("registration.other_writer", [] {
    tell_others<waits_for::write | waits_for::error>([](registration& r) { r.dispatch(EPOLLOUT, 1); });
});
mistake writer_outdated(other_writer, "who joins the others does not look again",
                        {"registration::see", "load", how::outdated});

scenario urgent("registration.urgent", [] {
    tell_others<waits_for::priority>([](registration& r) { r.dispatch(EPOLLPRI, 1); });
});
mistake urgent_unsaid(urgent, "an event does not say what it is",
                      {"registration::dispatch", "modify", how::left_out});
mistake urgent_outdated(urgent, "who joins the others does not look again",
                        {"registration::see", "load", how::outdated});

scenario failed_others("registration.shutdown_others", [] {
    tell_others<waits_for::read | waits_for::error>([](registration& r) { r.fail(); });
});
mistake others_left(failed_others, "the end of the runtime does not look for others",
                    {"registration::fail", "load", how::outdated});

// --- priority and errors are forgotten if they were looked at, and then alone ---

scenario extras("registration.forgets_extra", [] {
    registration_page page(nullptr, 0);
    registration& r = page.all[0];
    r.open(0, false);
    bool was_seen = false;
    thread("driver", [&] {
        r.dispatch(EPOLLPRI, 1);
        r.dispatch(EPOLLERR, 2);
    });
    thread("owner", [&] { // as ready_guard::clear_ready
        const look l = r.see();
        was_seen = (l.flags & registration::has_error) != 0;
        if ((l.flags & registration::extra_flags(3)) != 0)
            r.forget_extra(l.extra, 3);
    });
    run();
    check(was_seen || (r.flags() & registration::has_error) != 0,
          "an error that was not seen is not forgotten");
});
mistake forgets_more(extras, "it forgets what came after its look",
                     {"registration::forget_extra", "load", how::outdated});
mistake tick_unsaid(extras, "an event does not say that it has come",
                    {"registration::dispatch", "store", how::left_out});

// --- two halves of a stream go: the last one closes what both have used ---

scenario halves("registration.halves", [] {
    registration_page page(nullptr, 0);
    registration& r = page.all[0];
    r.open(1, false);
    r.retain();
    magpie_model::plain<int> first;
    magpie_model::plain<int> second;
    int closed = 0;
    const auto lets_go = [&](magpie_model::plain<int>& mine) {
        mine.set(7);
        if (r.release()) {
            check(first.get() == 7 && second.get() == 7, "the last one sees what both have done");
            ++closed;
        }
    };
    thread("first", [&] { lets_go(first); });
    thread("second", [&] { lets_go(second); });
    run();
    check(closed == 1, "one of them is the last");
});
mistake lets_go_in_two(halves, "a half lets go by a load and a store",
                       {"registration::release", "modify", how::in_two});

// --- reactor::add against reactor::shut_down ---

scenario add("registration.add_and_shutdown", [] {
    registration_page page(nullptr, 0);
    registration& r = page.all[0];
    magpie::detail::atomic<bool> down{false};
    const auto opens = [&] {
        r.open(1, false);
        if (down.load(std::memory_order_seq_cst))
            r.fail();
    };
    thread("opener", opens);
    thread("shutdown", [&] {
        down.exchange(true, std::memory_order_seq_cst);
        r.fail();
    });
    run();
    check((r.flags() & registration::shut_down) != 0, "it says that the runtime is gone");
    check(registration::is_event(r.seen(registration::reading)) &&
              registration::is_event(r.seen(registration::writing)),
          "and nothing waits any more");
});
mistake says_nothing(add, "the end of the runtime leaves no sign",
                     {"registration::fail", "modify", how::left_out});

} // namespace
