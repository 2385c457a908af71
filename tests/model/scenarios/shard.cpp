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

} // namespace
