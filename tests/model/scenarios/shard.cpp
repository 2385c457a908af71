// What goes between shards: the ring of messages, the inbox of wakes, and a pinned strand's end.

#include "scheduler.hpp"

#include <scheduler/src/idle.hpp>
#include <scheduler/src/inbox.hpp>
#include <scheduler/src/shard_mail.hpp>
#include <scheduler/src/shard_ring.hpp>

#include <magpie/scheduler/shard.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <source_location>
#include <utility>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::detail::enclosed_call;
using magpie::detail::enclosure;
using magpie::detail::idle_set;
using magpie::detail::inbox;
using magpie::detail::parcel;
using magpie::detail::posted;
using magpie::detail::runtime_group;
using magpie::detail::shard_mail;
using magpie::detail::shard_message;
using magpie::detail::shard_ring;

// --- the ring: order, and who found it full hears of room ---

struct alignas(8) item {
    magpie_model::plain<int> value;
};
using small_ring = shard_ring<item, magpie_model::plain<int>, 2>;

scenario ring("shard.ring", {.preemptions = 3, .full = 5}, [] {
    std::array<item, 4> items;
    small_ring r;
    // What the shards are told by their mail.
    bool here = false;
    bool there = false;
    std::size_t next = 0;
    std::size_t next_answer = 0;
    int sum = 0;
    const auto tell = [](bool& what) { magpie_model::step("tell", nullptr, [&] { what = true; }); };
    const auto sleep = [](bool& what) {
        magpie_model::own_step_when([&] { return what; }, "sleep", nullptr);
        what = false;
    };
    // Each other one is a call.
    const auto how = [](std::size_t i) { return i % 2 == 0 ? posted::call : posted::letter; };
    const auto take_answers = [&] {
        r.take_answers([&](const small_ring::found& x) {
            check(&x.what() == &items[next_answer] && x.how() == posted::answer, "so do answers");
            next_answer += 2;
            sum += x.enclosed().get();
        });
    };
    thread("sender", [&] {
        for (std::size_t i = 0; i < items.size();) {
            magpie_model::plain<int>* enclosed = r.next_enclosed();
            if (enclosed == nullptr) {
                r.ask_for_room();
                enclosed = r.next_enclosed();
            }
            if (enclosed == nullptr) {
                sleep(here);
                take_answers();
                continue;
            }
            items[i].value.set(1);
            enclosed->set(10);
            r.push(items[i], how(i));
            ++i;
            tell(there);
        }
        for (take_answers(); next_answer < items.size(); take_answers())
            sleep(here);
    });
    thread("receiver", [&] {
        std::array<small_ring::found, 2> some;
        while (next < items.size()) {
            sleep(there);
            for (std::size_t n; (n = r.look(some)) > 0; r.drop(n)) {
                for (std::size_t i = 0; i < n; ++i, ++next) {
                    check(&some[i].what() == &items[next] && some[i].how() == how(next),
                          "they come in order");
                    sum += some[i].what().value.get() + some[i].enclosed().get();
                    if (some[i].how() == posted::call) {
                        some[i].enclosed().set(100);
                        some[i].answer(posted::answer);
                        tell(here);
                    }
                }
            }
            if (r.room_is_wanted())
                tell(here);
        }
    });
    run();
    check(sum == 244, "each comes as it was sent, with what is enclosed, and so does the answer");
});

mistake wish_unsaid(ring, "who finds it full does not say so",
                    {"ask_for_room", "exchange", how::left_out});
mistake not_put(ring, "what is pushed is not in its place", {"::push", "store", how::left_out});
mistake not_answered(ring, "the answer is not in its place", {"::answer", "store", how::left_out});
mistake unread(ring, "who pushes does not look whether there is room", [] {
    std::array<item, 3> items;
    small_ring r;
    bool told = false;
    thread("sender", [&] {
        for (item& i : items)
            r.push(i, posted::letter);
        magpie_model::step("tell", nullptr, [&] { told = true; });
    });
    thread("receiver", [&] {
        magpie_model::own_step_when([&] { return told; }, "sleep", nullptr);
        std::array<small_ring::found, 2> some;
        std::size_t next = 0;
        for (std::size_t n; (n = r.look(some)) > 0; r.drop(n))
            for (std::size_t i = 0; i < n; ++i)
                check(&some[i].what() == &items[next++], "they come in order");
        check(next == items.size(), "all come");
    });
    run();
});

// --- the inbox: two put in, the shard sleeps unless there is something ---

scenario letters("shard.inbox", {.preemptions = 3, .full = 4}, [] {
    struct letter : magpie::detail::ready_node {
        magpie_model::plain<int> value;
        int taken = 0;
    };
    std::array<letter, 3> all; // the second is sent as a strand that is aborted: its word links it
    numbered_strands strands(1);
    inbox in;
    int told = 0;
    int taken = 0;
    const auto put = [&](std::size_t i) {
        all[i].value.set(1);
        if (in.put(i == 1 ? parcel(strands.at(0)) : parcel(all[i])))
            magpie_model::step("tell", nullptr, [&] { ++told; });
    };
    thread("one", [&] {
        put(0);
        put(1);
    });
    thread("other", [&] { put(2); });
    thread("shard", [&] {
        while (taken < 3) {
            magpie_model::step_when([&] { return told > 0; }, "sleep", nullptr);
            told = 0;
            int last = -1;
            in.take_all([&](parcel p) {
                check(!p.is_abort() || &p.aborted() == &strands.at(0),
                      "it is the strand that was sent");
                letter& l = p.is_abort() ? all[1] : static_cast<letter&>(p.node());
                check(++l.taken == 1, "none comes twice");
                const int i = static_cast<int>(&l - all.data());
                check(i == 2 || i > last, "those of one thread come in order");
                last = i == 2 ? last : i;
                taken += l.value.get();
            });
        }
    });
    run();
    check(taken == 3, "none is lost");
});

mistake put_by_store(letters, "a letter is put in without comparing",
                     {"inbox::put", "compare_exchange", how::unconditional});
mistake take_in_two(letters, "they are taken by a load and a store",
                    {"inbox::take_all", "exchange", how::in_two});
mistake unlinked(letters, "a strand that is aborted is not linked",
                 {"parcel::link", "store", how::left_out});

// --- mail: what is posted arrives, also by who lies down just then ---

struct note final : shard_message {
    explicit note(bool is_call = false) : encloses(is_call) {}

    void arrive() noexcept override { arrived += value.get(); }
    bool enclose(enclosure& e) noexcept override {
        if (encloses) {
            auto* const c = ::new (static_cast<void*>(e.bytes)) enclosed_call;
            c->call = [](shard_message&, enclosure& called, bool) noexcept {
                called.bytes[0] = std::byte(7); // nothing of the message itself
                return true;
            };
        }
        return encloses;
    }
    void answered(const enclosure* e) noexcept override { answer = std::to_integer<int>(e->bytes[0]); }

    const bool encloses;
    magpie_model::plain<int> value;
    int arrived = 0;
    int answer = 0;
};

/// Between two: what they tell each other by.
struct two_mails {
    explicit two_mails(std::size_t shards) : a(0, shards), b(1, shards) {}

    shard_mail& mail_of(std::size_t s) const { return s == 0 ? a : b; }
    void tell(std::size_t s) const {
        magpie_model::step("tell", nullptr, [&] { told[s] = true; });
    }
    void answered(std::size_t) const {}
    void sleep(std::size_t s) const {
        magpie_model::own_step_when([&] { return told[s]; }, "sleep", nullptr);
        told[s] = false;
    }

    mutable shard_mail a, b;
    mutable std::array<bool, 2> told{};
};

/// Few shards look into their rings, many at marks.
template <std::size_t Shards>
void mail_arrives() {
    const two_mails way(Shards);
    shard_mail::connect(way.a, way.b);
    std::array<note, 2> notes;
    thread("sender", [&] {
        for (note& n : notes) {
            n.value.set(1);
            static_cast<void>(way.a.post(1, n));
            way.a.send(way);
        }
    });
    thread("receiver", [&] {
        while (notes[0].arrived + notes[1].arrived < 2) {
            way.sleep(1);
            static_cast<void>(way.b.receive(way));
        }
    });
    run();
    check(notes[0].arrived == 1 && notes[1].arrived == 1, "each arrives once");
}

constexpr std::size_t few = shard_mail::few;
constexpr std::size_t many = few + 1;

scenario mail("shard.mail", {.preemptions = 3, .full = 4}, &mail_arrives<few>);
mistake unsent(mail, "what is sent is not in the ring", {"::push", "store", how::left_out});

scenario marked("shard.marked_mail", {.preemptions = 3, .full = 4}, &mail_arrives<many>);
mistake unmarked(marked, "the receiver is told of nothing",
                 {"shard_mail::mark", "modify", how::left_out});
mistake marks_in_two(marked, "the marks are taken by a load and a store",
                     {"shard_mail::receive", "exchange", how::in_two});

// --- ... and who lies down misses none, be it the first one, for which a ring is made ---

template <std::size_t Shards>
void mail_wakes() {
    const two_mails way(Shards);
    idle_set idle(1); // of b
    struct wakes_sleeper {
        shard_mail& mail_of(std::size_t s) const { return way.mail_of(s); }
        void tell(std::size_t s) const {
            if (idle.wake_one_after_store() != idle_set::nobody)
                way.tell(s);
        }
        void answered(std::size_t) const {}

        const two_mails& way;
        idle_set& idle;
    };
    const wakes_sleeper route{way, idle};
    note n;
    thread("sender", [&] {
        shard_mail::connect(way.a, way.b);
        n.value.set(1);
        static_cast<void>(way.a.post(1, n));
        way.a.send(route);
    });
    thread("receiver", [&] {
        while (n.arrived == 0) {
            if (way.b.receive(route))
                continue;
            idle.sleep(0, false, [] {});
            if (!way.b.has_come())
                way.sleep(1);
            idle.get_up(0);
        }
    });
    run();
    check(n.arrived == 1, "it arrives");
}

scenario wakes("shard.mail_wakes", {.preemptions = 3, .full = 4}, &mail_wakes<few>);
mistake ring_unasked(wakes, "who lies down does not look into its rings again",
                     {"shard_ring<magpie::detail::shard_message, magpie::detail::enclosure>::has_any",
                      "load", how::outdated, "idle_set::sleep", "idle_set::get_up"});

mistake asks_first(wakes, "who sends asks who sleeps by a mere load",
                   {"idle_set::wake_one_after_store", "modify", how::left_out});

scenario mark_wakes("shard.mark_wakes", {.preemptions = 3, .full = 4}, &mail_wakes<many>);
mistake marks_unasked(mark_wakes, "who lies down does not look for marks again",
                      {"shard_mail::has_come", "load", how::outdated, "idle_set::sleep",
                       "idle_set::get_up"});

// --- a call that is enclosed, and its answer; unless it was revoked, which is seen by who knows of that ---

template <std::size_t Shards>
void call_answered() {
    const two_mails way(Shards);
    shard_mail::connect(way.a, way.b);
    note n(true);
    thread("caller", [&] {
        static_cast<void>(way.a.post(1, n));
        way.a.send(way);
        while (n.answer == 0) {
            way.sleep(0);
            static_cast<void>(way.a.receive(way));
        }
    });
    thread("called", [&] {
        way.sleep(1);
        static_cast<void>(way.b.receive(way));
    });
    run();
    check(n.answer == 7 && n.arrived == 0, "it is answered without the message");
}

scenario calls("shard.call", {.preemptions = 3, .full = 4}, &call_answered<few>);
mistake unanswered(calls, "the answer is not in its place", {"::answer", "store", how::left_out});

scenario marked_calls("shard.marked_call", {.preemptions = 3, .full = 4}, &call_answered<many>);
mistake answer_unmarked(marked_calls, "nobody is told of the answer",
                        {"shard_mail::mark", "modify", how::left_out});

// --- two that have had nothing to do with each other: whoever is first makes the rings ---

scenario connected("shard.connect", {.preemptions = 3, .full = 4}, [] {
    const two_mails way(2);
    note one;
    note other;
    const auto talk = [&way](std::size_t me, note& n, const note& comes) {
        shard_mail& mine = way.mail_of(me);
        shard_mail::connect(mine, way.mail_of(1 - me));
        n.value.set(1);
        static_cast<void>(mine.post(1 - me, n));
        mine.send(way);
        while (comes.arrived == 0) {
            way.sleep(me);
            static_cast<void>(mine.receive(way));
        }
    };
    thread("a", [&] { talk(0, one, other); });
    thread("b", [&] { talk(1, other, one); });
    run();
    check(one.arrived == 1 && other.arrived == 1, "each arrives once");
});

mistake made_twice(connected, "who makes a ring does not look whether there is one",
                   {"shard_mail::make_ring", "compare_exchange", how::unconditional});

// --- a task of a shard against an abort and a wake from outside, and against the end ---

std::shared_ptr<runtime_group> make_shards(std::size_t n) {
    magpie::detail::runtime_options o;
    o.layout = magpie::layout::thread_per_core;
    o.worker_threads = n;
    o.seed = 1;
    o.lifo_slot = false;
    o.move_cost = {};
    return std::make_shared<runtime_group>(std::move(o), std::source_location::current());
}

magpie::task<> wait(slot& s, bool& woken) {
    co_await s.wait();
    woken = true;
}
magpie::task<> nothing() { co_return; }

scenario abort_and_end(
    "shard.abort_and_end", {.preemptions = 2, .full = 3, .which = timeouts::soon}, [] {
        auto rt = make_shards(1);
        bool worker_left = false;
        auto handle = magpie::detail::spawn_on(*rt->shards.front(), nothing(),
                                               std::source_location::current());
        thread("worker", [&] {
            rt->shards.front()->workers[0]->run();
            worker_left = true;
        });
        thread("aborter", [&] { handle.abort(); });
        thread("closer", [&] {
            rt->close();
            magpie_model::step_when([&] { return worker_left; }, "wait for the worker", nullptr);
            check(rt->stopped() && rt->all_ended(), "the runtime has stopped, with nobody left");
            rt.reset(); // the aborter may still be on its way out
        });
        run();
        check(handle.is_finished(), "the task has ended or was dropped");
    });

mistake open_to_aborts(abort_and_end, "a task ends without a look at aborts",
                       {"cell::closes_to_aborts", "modify", how::left_out});

scenario wake_and_close("shard.wake_and_close", {.preemptions = 2, .full = 3, .which = timeouts::soon},
                        [] {
                            const auto rt = make_shards(1);
                            slot s("slot");
                            bool woken = false;
                            auto handle = magpie::detail::spawn_on(*rt->shards.front(), wait(s, woken),
                                                                   std::source_location::current());
                            thread("worker", [&] { rt->shards.front()->workers[0]->run(); });
                            thread("waker", [&] { s.set(); });
                            thread("closer", [&] {
                                magpie_model::step_when([&] { return woken; }, "wait for the task",
                                                        nullptr);
                                rt->close();
                            });
                            run();
                            check(handle.is_finished() && rt->stopped(), "the wake has come");
                        });

mistake wake_unseen(wake_and_close, "who sends sees an old idle word",
                    {"idle_set::wake_one", "load", how::outdated});
mistake inbox_unasked(wake_and_close, "a shard that lies down does not look into its inbox again",
                      {"inbox::has_any", "load", how::outdated, "idle_set::sleep", "parker::announce"});

// --- one shard asks another, and both may lie down at any time ---

magpie::task<> ask(int& answer) {
    const auto seven = [] { return 7; };
    answer = co_await magpie::submit_to(1, seven);
}

scenario asks("shard.submit", {.preemptions = 1, .full = 2, .which = timeouts::none}, [] {
    const auto rt = make_shards(2);
    int answer = 0;
    auto handle = magpie::detail::spawn_on(*rt->shards.front(), ask(answer),
                                           std::source_location::current());
    thread("worker a", [&] { rt->shards[0]->workers[0]->run(); });
    thread("worker b", [&] { rt->shards[1]->workers[0]->run(); });
    thread("closer", [&] {
        magpie_model::step_when([&] { return answer == 7; }, "wait for the answer", nullptr);
        rt->close();
    });
    run();
    check(handle.is_finished() && rt->stopped(), "it has come");
});

mistake mail_unasked(asks, "a shard that lies down does not look for mail again",
                     {"shard_ring<magpie::detail::shard_message, magpie::detail::enclosure>::has_any",
                      "load", how::outdated, "idle_set::sleep", "parker::announce"});

// --- what is submitted to another runtime is revoked while it begins there ---

class submitted final : public magpie::detail::submission {
public:
    submitted(magpie::detail::runtime_core& to, magpie::executor& from) : submission(to, from) {}
    ~submitted() {
        if (cell_ != nullptr)
            cell_->release();
    }
    using submission::revoke;

    void start(magpie::executor& on, magpie::task<> t) {
        const auto root = magpie::detail::task_access::release(std::move(t));
        cell_ = new magpie::detail::submitted_cell<void>(on, root, std::source_location::current(),
                                                         *this);
        if (!begin_as(*cell_))
            cell_->abort();
        on.adopt(*cell_);
    }
    bool has_ended = false;

private:
    void begin() noexcept override {}
    void begin_from_outside() noexcept override {}
    void ended() noexcept override { has_ended = true; }
    bool enclose_call(enclosure&) noexcept override { return false; }
    void take_answer(const enclosure&) noexcept override {}

    magpie::detail::submitted_cell<void>* cell_ = nullptr;
};

scenario revoked("shard.revoke", {.preemptions = 3, .full = 4}, [] {
    const auto rt = make_shards(1);
    executor elsewhere;
    submitted s(*rt->shards.front(), elsewhere);
    slot never("slot");
    bool woken = false;
    thread("target", [&] {
        s.start(elsewhere, wait(never, woken));
        elsewhere.work();
    });
    thread("caller", [&] { s.revoke(); });
    run();
    check(s.has_ended && !woken, "it was aborted");
});

mistake revoked_in_two(revoked, "it is revoked by a load and a store",
                       {"submission::revoke", "exchange", how::in_two});

} // namespace
