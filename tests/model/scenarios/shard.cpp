// What goes between shards: the ring of messages, the inbox of wakes, and a pinned strand's end.

#include "scheduler.hpp"

#include <scheduler/src/inbox.hpp>
#include <scheduler/src/shard_mail.hpp>
#include <scheduler/src/shard_ring.hpp>

#include <magpie/scheduler/shard.hpp>

#include <array>
#include <memory>
#include <source_location>
#include <utility>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::detail::inbox;
using magpie::detail::parcel;
using magpie::detail::runtime_group;
using magpie::detail::shard_mail;
using magpie::detail::shard_message;
using magpie::detail::shard_ring;

// --- the ring: order, and who found it full hears of room ---

struct item {
    magpie_model::plain<int> value;
};

template <class Ring>
void ring_in_order() {
    std::array<item, 4> items;
    Ring ring;
    // What the shards are told by their mail.
    bool room = false;
    bool mail = false;
    std::size_t next = 0;
    int sum = 0;
    const auto tell = [](bool& what) { magpie_model::step("tell", nullptr, [&] { what = true; }); };
    const auto sleep = [](bool& what) {
        magpie_model::step_when([&] { return what; }, "sleep", nullptr);
        what = false;
    };
    thread("sender", [&] {
        for (item& i : items) {
            i.value.set(1);
            if (!ring.push(i)) {
                ring.ask_for_room();
                while (!ring.push(i)) {
                    sleep(room);
                    ring.ask_for_room();
                }
            }
            tell(mail);
        }
    });
    thread("receiver", [&] {
        while (next < items.size()) {
            sleep(mail);
            while (item* const i = ring.pop()) {
                check(i == &items[next++], "they come in order");
                sum += i->value.get();
            }
            if (ring.room_is_wanted())
                tell(room);
        }
    });
    run();
    check(sum == 4, "each comes as it was sent");
}

scenario ring("shard.ring", {.preemptions = 2, .full = 3}, &ring_in_order<shard_ring<item, 2>>);

mistake wish_unsaid(ring, "who finds it full does not say so",
                    {"ask_for_room", "exchange", how::left_out});
mistake tail_unseen(ring, "the tail is not published", {"::push", "store", how::left_out});

// --- the inbox: two put in, the shard sleeps unless there is something ---

scenario letters("shard.inbox", {.preemptions = 3, .full = 4}, [] {
    struct letter : magpie::detail::ready_node {
        magpie_model::plain<int> value;
        int taken = 0;
    };
    std::array<letter, 3> all;
    inbox in;
    int told = 0;
    int taken = 0;
    const auto put = [&](std::size_t i) {
        all[i].value.set(1);
        if (in.put(parcel(all[i], false)))
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
                letter& l = static_cast<letter&>(p.node());
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

// --- mail: what is posted arrives, also by who lies down just then ---

struct note final : shard_message {
    void arrive() noexcept override { ++arrived; }
    int arrived = 0;
};

scenario mail("shard.mail", {.preemptions = 2, .full = 3}, [] {
    shard_mail a(0, 2);
    shard_mail b(1, 2);
    shard_mail::connect(a, b);
    std::array<note, 2> notes;
    int told = 0;
    const auto of = [&](std::size_t s) -> shard_mail& { return s == 0 ? a : b; };
    thread("sender", [&] {
        for (note& n : notes) {
            static_cast<void>(a.post(1, n));
            a.send(of, [&](std::size_t) { magpie_model::step("tell", nullptr, [&] { ++told; }); });
        }
    });
    thread("receiver", [&] {
        while (notes[0].arrived + notes[1].arrived < 2) {
            magpie_model::step_when([&] { return told > 0; }, "sleep", nullptr);
            told = 0;
            static_cast<void>(b.receive(of, [](std::size_t) {}));
        }
    });
    run();
    check(notes[0].arrived == 1 && notes[1].arrived == 1, "each arrives once");
});

mistake unmarked(mail, "the receiver is told of nothing",
                 {"shard_mail::mark", "modify", how::left_out});
mistake marks_in_two(mail, "the marks are taken by a load and a store",
                     {"shard_mail::receive", "exchange", how::in_two});

// --- two that have had nothing to do with each other: whoever is first makes the rings ---

scenario connected("shard.connect", {.preemptions = 3, .full = 4}, [] {
    shard_mail a(0, 2);
    shard_mail b(1, 2);
    note one;
    note other;
    int told_a = 0;
    int told_b = 0;
    const auto of = [&](std::size_t s) -> shard_mail& { return s == 0 ? a : b; };
    const auto talk = [&of](shard_mail& mine, std::size_t peer, note& n, int& told, int& told_peer,
                            const note& comes) {
        shard_mail::connect(mine, of(peer));
        static_cast<void>(mine.post(peer, n));
        mine.send(of, [&](std::size_t) { magpie_model::step("tell", nullptr, [&] { ++told_peer; }); });
        while (comes.arrived == 0) {
            magpie_model::own_step_when([&] { return told > 0; }, "sleep", nullptr);
            told = 0;
            static_cast<void>(mine.receive(of, [](std::size_t) {}));
        }
    };
    thread("a", [&] { talk(a, 1, one, told_a, told_b, other); });
    thread("b", [&] { talk(b, 0, other, told_b, told_a, one); });
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
                     {"shard_mail::has_come", "load", how::outdated, "idle_set::sleep",
                      "parker::announce"});

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
