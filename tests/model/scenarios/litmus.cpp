// The explorer against C++20: each of the classic small programs has exactly the outcomes that the
// standard allows, and each order that is weakened adds the ones it has kept away. One that C++ allows is out of
// reach (see litmus.load_buffering), and one is found that it does not allow, but processors do (litmus.read_back).

#include "support.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace {

using namespace model_test;
using magpie::detail::atomic;
using magpie::detail::lock_guard;
using magpie::detail::mutex;
using magpie_model::outcome;
using magpie_model::plain;
using order = std::memory_order;

constexpr order relaxed = order::relaxed;
constexpr order acquire = order::acquire;
constexpr order release = order::release;
constexpr order acq_rel = order::acq_rel;
constexpr order seq_cst = order::seq_cst;

constexpr unsigned all = 99; // preemptions: more than there can be

constexpr scenario::bounds gives(const char* outcomes) {
    return {.preemptions = all, .full = all, .outcomes = outcomes};
}

// --- store buffering: two that store, and then look for the other ---

template <order Store1, order Load1, order Store2, order Load2>
void store_buffering() {
    atomic<int> x{0};
    atomic<int> y{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        x.store(1, Store1);
        r1 = y.load(Load1);
    });
    thread("2", [&] {
        y.store(1, Store2);
        r2 = x.load(Load2);
    });
    run();
    outcome({r1, r2});
}

scenario sb("litmus.store_buffering", gives("01 10 11"),
            &store_buffering<seq_cst, seq_cst, seq_cst, seq_cst>);
scenario sb_store1("litmus.store_buffering.store_1", gives("00 01 10 11"),
                   &store_buffering<release, seq_cst, seq_cst, seq_cst>);
scenario sb_load1("litmus.store_buffering.load_1", gives("00 01 10 11"),
                  &store_buffering<seq_cst, acquire, seq_cst, seq_cst>);
scenario sb_store2("litmus.store_buffering.store_2", gives("00 01 10 11"),
                   &store_buffering<seq_cst, seq_cst, release, seq_cst>);
scenario sb_load2("litmus.store_buffering.load_2", gives("00 01 10 11"),
                  &store_buffering<seq_cst, seq_cst, seq_cst, acquire>);
scenario sb_relaxed("litmus.store_buffering.relaxed", gives("00 01 10 11"),
                    &store_buffering<relaxed, relaxed, relaxed, relaxed>);

// The same by read-modify-writes, of which one sees the other: they need no single order.
scenario sb_modify("litmus.store_buffering.modify", gives("01 10 11"), [] {
    atomic<int> x{0};
    atomic<int> y{0};
    atomic<int> barrier{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        x.store(1, relaxed);
        barrier.exchange(1, acq_rel);
        r1 = y.load(relaxed);
    });
    thread("2", [&] {
        y.store(1, relaxed);
        barrier.exchange(1, acq_rel);
        r2 = x.load(relaxed);
    });
    run();
    outcome({r1, r2});
});

// --- store buffering by who reads back what it has stored ---

// 00 is what C++20 does not allow: the load of x that reads 1 would come behind the one that reads 0. An x86-64
// processor gets there: a plain store still stands in its buffer when that is read back. So the explorer does.
template <order Store>
void read_back() {
    atomic<int> x{0};
    atomic<int> y{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        x.store(1, Store);
        check(x.load(seq_cst) == 1, "it reads its own");
        r1 = y.load(seq_cst);
    });
    thread("2", [&] {
        y.store(1, seq_cst);
        r2 = x.load(seq_cst);
    });
    run();
    outcome({r1, r2});
}

scenario rb("litmus.read_back", gives("01 10 11"), &read_back<seq_cst>);
scenario rb_release("litmus.read_back.release", gives("00 01 10 11"), &read_back<release>);

// --- message passing ---

template <order Store, order Load>
void message_passing() {
    atomic<int> data{0};
    atomic<int> flag{0};
    int r1 = 0;
    int r2 = 0;
    thread("sender", [&] {
        data.store(1, relaxed);
        flag.store(1, Store);
    });
    thread("receiver", [&] {
        r1 = flag.load(Load);
        r2 = data.load(relaxed);
    });
    run();
    outcome({r1, r2});
}

scenario mp("litmus.message_passing", gives("00 01 11"), &message_passing<release, acquire>);
scenario mp_seq_cst("litmus.message_passing.seq_cst", gives("00 01 11"),
                    &message_passing<seq_cst, seq_cst>);
scenario mp_store("litmus.message_passing.store", gives("00 01 10 11"),
                  &message_passing<relaxed, acquire>);
scenario mp_load("litmus.message_passing.load", gives("00 01 10 11"),
                 &message_passing<release, relaxed>);

template <order Store, order Load>
void plain_message() {
    plain<int> data;
    atomic<int> flag{0};
    thread("sender", [&] {
        data.set(1);
        flag.store(1, Store);
    });
    thread("receiver", [&] {
        if (flag.load(Load) == 1)
            check(data.get() == 1, "the message has arrived");
    });
    run();
}

scenario pm("litmus.plain_message", {.preemptions = all, .full = all},
            &plain_message<release, acquire>);
mistake pm_store(pm, "it is not released", &plain_message<relaxed, acquire>);
mistake pm_load(pm, "it is not acquired", &plain_message<release, relaxed>);
mistake pm_after(pm, "it is written after the release", [] {
    plain<int> data;
    atomic<int> flag{0};
    thread("sender", [&] {
        flag.store(1, release);
        data.set(1);
    });
    thread("receiver", [&] {
        if (flag.load(acquire) == 1)
            data.get();
    });
    run();
});

// --- load buffering ---

// C++ allows 11 as well: each load would read what is stored by a later step of the other thread. No explorer
// that runs the threads' steps in their order gets there, nor does any processor that keeps
// dependencies and does not guess values.
scenario lb("litmus.load_buffering", gives("00 01 10"), [] {
    atomic<int> x{0};
    atomic<int> y{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        r1 = x.load(relaxed);
        y.store(1, relaxed);
    });
    thread("2", [&] {
        r2 = y.load(relaxed);
        x.store(1, relaxed);
    });
    run();
    outcome({r1, r2});
});

// --- independent reads of independent writes ---

template <order Store, order Load1, order Load2, order Load3, order Load4>
void independent_reads() {
    atomic<int> x{0};
    atomic<int> y{0};
    std::array<int, 4> r{};
    thread("x", [&] { x.store(1, Store); });
    thread("y", [&] { y.store(1, Store); });
    thread("xy", [&] {
        r[0] = x.load(Load1);
        r[1] = y.load(Load2);
    });
    thread("yx", [&] {
        r[2] = y.load(Load3);
        r[3] = x.load(Load4);
    });
    run();
    outcome({r[0], r[1], r[2], r[3]});
}

constexpr const char* agreed =
    "0000 0001 0010 0011 0100 0101 0110 0111 1000 1001 1011 1100 1101 1110 1111";
constexpr const char* not_agreed =
    "0000 0001 0010 0011 0100 0101 0110 0111 1000 1001 1010 1011 1100 1101 1110 1111";

scenario iriw("litmus.independent_reads", gives(agreed),
              &independent_reads<seq_cst, seq_cst, seq_cst, seq_cst, seq_cst>);
// The loads alone are in the single order, and the order of the stores follows from theirs.
scenario iriw_stores("litmus.independent_reads.stores", gives(agreed),
                     &independent_reads<release, seq_cst, seq_cst, seq_cst, seq_cst>);
scenario iriw_load1("litmus.independent_reads.load_1", gives(not_agreed),
                    &independent_reads<seq_cst, acquire, seq_cst, seq_cst, seq_cst>);
scenario iriw_load2("litmus.independent_reads.load_2", gives(not_agreed),
                    &independent_reads<seq_cst, seq_cst, acquire, seq_cst, seq_cst>);
scenario iriw_loads("litmus.independent_reads.loads", gives(not_agreed),
                    &independent_reads<seq_cst, acquire, acquire, acquire, acquire>);

// --- write to read causality: what was acquired is handed on ---

template <order Load, order Store>
void causality() {
    atomic<int> x{0};
    atomic<int> y{0};
    std::array<int, 3> r{};
    thread("1", [&] { x.store(1, release); });
    thread("2", [&] {
        r[0] = x.load(Load);
        y.store(1, Store);
    });
    thread("3", [&] {
        r[1] = y.load(acquire);
        r[2] = x.load(relaxed);
    });
    run();
    outcome({r[0], r[1], r[2]});
}

scenario wrc("litmus.causality", gives("000 001 010 011 100 101 111"), &causality<acquire, release>);
// Nothing is handed on here, but what has seen a store is known, and the third thread cannot look behind it.
scenario wrc_load("litmus.causality.load", gives("000 001 010 011 100 101 111"),
                  &causality<relaxed, release>);
scenario wrc_store("litmus.causality.store", gives("000 001 010 011 100 101 110 111"),
                   &causality<acquire, relaxed>);

// --- release sequences ---

// r1 is the flag: 1 as it was released, 2 as somebody has changed it since.
template <order Change>
void changed_by_other() {
    atomic<int> data{0};
    atomic<int> flag{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        data.store(1, relaxed);
        flag.store(1, release);
    });
    thread("2", [&] {
        int one = 1;
        flag.compare_exchange_strong(one, 2, Change, relaxed);
    });
    thread("3", [&] {
        r1 = flag.load(acquire);
        r2 = data.load(relaxed);
    });
    run();
    outcome({r1, r2});
}

scenario rs_modify("litmus.release_sequence.modify", gives("00 01 11 21"), &changed_by_other<relaxed>);

scenario rs_store("litmus.release_sequence.other_store", gives("00 01 11 20 21"), [] {
    atomic<int> data{0};
    atomic<int> flag{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        data.store(1, relaxed);
        flag.store(1, release);
    });
    thread("2", [&] { flag.store(2, relaxed); });
    thread("3", [&] {
        r1 = flag.load(acquire);
        r2 = data.load(relaxed);
    });
    run();
    outcome({r1, r2});
});

// Since C++20 a plain store ends the sequence, though it is the same thread's.
scenario rs_own("litmus.release_sequence.own_store", gives("00 01 11 20 21"), [] {
    atomic<int> data{0};
    atomic<int> flag{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        data.store(1, relaxed);
        flag.store(1, release);
        flag.store(2, relaxed);
    });
    thread("2", [&] {
        r1 = flag.load(acquire);
        r2 = data.load(relaxed);
    });
    run();
    outcome({r1, r2});
});

// --- coherence: one atomic, relaxed ---

scenario corr("litmus.coherence.read_read", gives("00 01 02 11 12 22"), [] {
    atomic<int> x{0};
    int r1 = 0;
    int r2 = 0;
    thread("1", [&] {
        x.store(1, relaxed);
        x.store(2, relaxed);
    });
    thread("2", [&] {
        r1 = x.load(relaxed);
        r2 = x.load(relaxed);
    });
    run();
    outcome({r1, r2});
});

// r1 and what is there in the end.
scenario cowr("litmus.coherence.write_read", gives("11 12 22"), [] {
    atomic<int> x{0};
    int r1 = 0;
    thread("1", [&] {
        x.store(1, relaxed);
        r1 = x.load(relaxed);
    });
    thread("2", [&] { x.store(2, relaxed); });
    run();
    outcome({r1, x.load(relaxed)});
});

scenario corw("litmus.coherence.read_write", gives("01 02 21"), [] {
    atomic<int> x{0};
    int r1 = 0;
    thread("1", [&] {
        r1 = x.load(relaxed);
        x.store(1, relaxed);
    });
    thread("2", [&] { x.store(2, relaxed); });
    run();
    outcome({r1, x.load(relaxed)});
});

scenario coww("litmus.coherence.write_write", gives("2 3"), [] {
    atomic<int> x{0};
    thread("1", [&] {
        x.store(1, relaxed);
        x.store(2, relaxed);
    });
    thread("2", [&] { x.store(3, relaxed); });
    run();
    outcome({x.load(relaxed)});
});

scenario corr2("litmus.coherence.two_readers", {.preemptions = all, .full = all}, [] {
    atomic<int> x{0};
    std::array<int, 4> r{};
    thread("1", [&] { x.store(1, relaxed); });
    thread("2", [&] { x.store(2, relaxed); });
    thread("3", [&] {
        r[0] = x.load(relaxed);
        r[1] = x.load(relaxed);
    });
    thread("4", [&] {
        r[2] = x.load(relaxed);
        r[3] = x.load(relaxed);
    });
    run();
    check(r != std::array{1, 2, 2, 1} && r != std::array{2, 1, 1, 2},
          "all see the stores to one atomic in one order");
});

// Each reads what is there, and nothing comes in between.
scenario adds("litmus.coherence.modify", gives("012 021 102 120 201 210"), [] {
    atomic<int> x{0};
    std::array<int, 3> r{};
    for (std::size_t i = 0; i < 3; ++i)
        thread("adder", [&x, &r, i] { r[i] = x.fetch_add(1, relaxed); });
    run();
    check(x.load(relaxed) == 3, "none is lost");
    outcome({r[0], r[1], r[2]});
});

// --- 2+2W: two atomics, each stored to by both, in opposite orders; what is there in the end ---

template <order Store>
void two_and_two() {
    atomic<int> x{0};
    atomic<int> y{0};
    thread("1", [&] {
        x.store(1, Store);
        y.store(2, Store);
    });
    thread("2", [&] {
        y.store(1, Store);
        x.store(2, Store);
    });
    run();
    outcome({x.load(relaxed), y.load(relaxed)});
}

scenario w22("litmus.two_and_two", gives("12 21 22"), &two_and_two<seq_cst>);
scenario w22_release("litmus.two_and_two.release", gives("11 12 21 22"), &two_and_two<release>);
scenario w22_relaxed("litmus.two_and_two.relaxed", gives("11 12 21 22"), &two_and_two<relaxed>);

// --- the single order is not that of happening before ---

// 130 is what C++20 allows and C++11 did not ("Z6.U"): the store to x happens before the load that does
// not see it, but by way of the release store of y, which is not seq_cst.
template <order Store>
void single_order() {
    atomic<int> x{0};
    atomic<int> y{0};
    std::array<int, 3> r{};
    thread("1", [&] {
        x.store(1, seq_cst);
        y.store(1, Store);
    });
    thread("2", [&] {
        r[0] = y.fetch_add(1, seq_cst);
        r[1] = y.load(relaxed);
    });
    thread("3", [&] {
        y.store(3, seq_cst);
        r[2] = x.load(seq_cst);
    });
    run();
    if (r[0] == 1 && r[1] == 3)
        outcome({r[0], r[1], r[2]});
}

scenario z6("litmus.single_order", gives("130 131"), &single_order<release>);
scenario z6_seq_cst("litmus.single_order.seq_cst", gives("131"), &single_order<seq_cst>);

// A seq_cst load reads the last seq_cst store before it, or something newer that need not be seq_cst.
scenario sc_mixed("litmus.single_order.mixed", gives("1 2"), [] {
    atomic<int> x{0};
    atomic<int> gate{0};
    int r = 1;
    thread("1", [&] {
        x.store(1, seq_cst);
        gate.store(1, seq_cst);
        x.store(2, relaxed);
    });
    thread("2", [&] {
        if (gate.load(seq_cst) == 1)
            r = x.load(seq_cst);
    });
    run();
    outcome({r});
});

// --- mutual exclusion by loads and stores ---

/// Who gets in touches what must not be touched by two at a time; who does not goes away.
class room {
public:
    void enter() {
        check(++inside_ == 1, "one at a time");
        magpie_model::yield();
        --inside_;
    }

private:
    int inside_ = 0;
};

template <order Store1, order Load1, order Store2, order Load2>
void dekker() {
    atomic<int> x{0};
    atomic<int> y{0};
    room r;
    thread("1", [&] {
        x.store(1, Store1);
        if (y.load(Load1) == 0)
            r.enter();
    });
    thread("2", [&] {
        y.store(1, Store2);
        if (x.load(Load2) == 0)
            r.enter();
    });
    run();
}

scenario dk("litmus.dekker", {.preemptions = all, .full = all},
            &dekker<seq_cst, seq_cst, seq_cst, seq_cst>);
mistake dk1(dk, "the first store is release", &dekker<release, seq_cst, seq_cst, seq_cst>);
mistake dk2(dk, "the first load is acquire", &dekker<seq_cst, acquire, seq_cst, seq_cst>);
mistake dk3(dk, "the second store is release", &dekker<seq_cst, seq_cst, release, seq_cst>);
mistake dk4(dk, "the second load is acquire", &dekker<seq_cst, seq_cst, seq_cst, acquire>);

template <order Flag, order Turn, order LookAtFlag, order LookAtTurn>
void peterson() {
    std::array<atomic<int>, 2> flag;
    atomic<int> turn{0};
    room r;
    for (std::size_t me : {0U, 1U})
        thread("one", [&, me] {
            const int other = static_cast<int>(1 - me);
            flag[me].store(1, Flag);
            turn.store(other, Turn);
            if (flag[1 - me].load(LookAtFlag) == 0 || turn.load(LookAtTurn) != other)
                r.enter();
        });
    run();
}

scenario pt("litmus.peterson", {.preemptions = all, .full = all},
            &peterson<seq_cst, seq_cst, seq_cst, seq_cst>);
mistake pt1(pt, "the own flag is stored by release", &peterson<release, seq_cst, seq_cst, seq_cst>);
mistake pt2(pt, "the turn is stored by release", &peterson<seq_cst, release, seq_cst, seq_cst>);
mistake pt3(pt, "the other's flag is loaded by acquire", &peterson<seq_cst, seq_cst, acquire, seq_cst>);
// Who finds the other's turn there was the first to store, and the other cannot find his: coherence.
scenario pt4("litmus.peterson.load_turn", {.preemptions = all, .full = all},
             &peterson<seq_cst, seq_cst, seq_cst, relaxed>);

// --- ABA: a stack that compares the head alone ---

struct node {
    node* next = nullptr;
    bool taken = false;
};

template <bool Counts>
void naive_stack() {
    struct link {
        std::uint32_t index; // of the node, from 1
        std::uint32_t count;
    };
    std::array<std::uint32_t, 3> next{0, 0, 1}; // 2 stands on 1
    std::array<int, 3> owners{};
    atomic<link> head{link{2, 0}};
    const auto pop = [&]() -> std::uint32_t {
        link seen = head.load(acquire);
        for (;;) {
            if (seen.index == 0)
                return 0;
            const link rest{next[seen.index], seen.count + Counts};
            if (head.compare_exchange_strong(seen, rest, acq_rel, acquire))
                return seen.index;
        }
    };
    const auto push = [&](std::uint32_t n) {
        link seen = head.load(relaxed);
        for (;;) {
            next[n] = seen.index;
            if (head.compare_exchange_strong(seen, link{n, seen.count + Counts}, release, relaxed))
                return;
        }
    };
    const auto own = [&](std::uint32_t n) {
        if (n != 0)
            check(++owners[n] == 1, "a node has one owner");
    };
    thread("1", [&] { own(pop()); });
    thread("2", [&] {
        const std::uint32_t first = pop();
        own(pop());
        if (first != 0)
            push(first);
    });
    run();
    own(pop());
    own(pop());
}

scenario counted("litmus.aba", {.preemptions = all, .full = all}, &naive_stack<true>);
mistake aba(counted, "the head has no count", &naive_stack<false>);

// --- locks and futexes order plain memory ---

scenario locked("litmus.lock", {.preemptions = all, .full = all}, [] {
    mutex m;
    plain<int> n;
    threads(2, "adder", [&] {
        const lock_guard guard(m);
        n.set(n.get() + 1);
    });
    run();
    check(n.get() == 2, "none is lost");
});
mistake unlocked(locked, "the lock is left out", {"lock_guard", "lock", spoiled::how::left_out});

} // namespace
