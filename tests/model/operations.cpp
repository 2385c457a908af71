#include <magpie_model/operations.hpp>

#include "engine.hpp"
#include "memory.hpp"
#include "weaken.hpp"

#include <optional>
#include <utility>

namespace magpie_model {

namespace {

using how = spoiled::how;

void check_alive(bool alive) noexcept {
    if (!alive)
        fail("use after free", "an operation on something that is gone");
}

// What a location says of its history.
std::uint64_t history_of(std::uint32_t execution, std::uint32_t number) noexcept {
    return std::uint64_t{execution} << 32 | number;
}
std::uint32_t execution_of(std::uint64_t history) noexcept {
    return static_cast<std::uint32_t>(history >> 32);
}
std::uint32_t number_of(std::uint64_t history) noexcept { return static_cast<std::uint32_t>(history); }

std::uint8_t self() noexcept { return static_cast<std::uint8_t>(current_thread()); }

} // namespace

// --- atomics ---

void location::end() noexcept { alive_ = 0; }

void location::show_latest() const noexcept {
    if (history_ != 0 && execution_of(history_) == execution())
        atomics().show_latest(atomics()[number_of(history_)], self(), now());
}

/// A thread's turn at an atomic.
class turn {
public:
    turn(const location& l, const char* what, std::memory_order order, const source& at)
        : operation_{what, &l, at, l.type(), name_of(order)}, location_(l) {
        await_turn(operation_);
        check_alive(l.is_alive());
        memory::look_at_load(&l.value_, sizeof l.value_); // in the scenario's name
        if (execution() != 0 && execution_of(l.history_) != execution()) {
            const memory::counting ours(false);
            l.history_ = history_of(execution(), atomics().add(l.value_));
        }
    }

    bool is(how effect) const noexcept { return is_spoiled(operation_, effect); }

    /// Chooses where to go. For a compare-exchange with what it expects, and the order if that fails.
    access choose(access kind, std::memory_order order, std::optional<std::uint64_t> expected = {},
                  std::memory_order failure = std::memory_order_relaxed) {
        if (execution() == 0)
            return expected && location_.value_ != *expected ? access::load : kind;
        const memory::counting ours(false);
        const auto& places = atomics().places(past(), kind, self(), now(), order, expected, failure);
        const std::size_t chosen = choose_place(places.size());
        place_ = places[chosen];
        if (chosen > 0)
            last_step().note = place_.kind == access::load ? ", an old value"
                                                           : ", before a later store";
        return place_.kind;
    }

    std::uint64_t seen() const noexcept {
        const std::uint64_t v = execution() == 0 ? location_.value_ : past().value(place_.index - 1);
        last_step().seen = v;
        if (execution() != 0)
            last_step().from = past().step(place_.index - 1);
        return v;
    }

    void load(std::memory_order order) { put(order, 0); }
    void store(location& l, std::memory_order order, std::uint64_t desired) {
        last_step().written = desired;
        put(order, desired);
        l.value_ = execution() == 0 ? desired : past().latest();
        others_may_go();
    }

private:
    history& past() const noexcept { return atomics()[number_of(location_.history_)]; }
    void put(std::memory_order order, std::uint64_t desired) {
        const memory::counting ours(false);
        if (execution() != 0)
            atomics().put(past(), place_, self(), now(), order, desired, steps_in_execution());
    }

    operation operation_;
    const location& location_;
    place place_{access::load, 0};
};

std::uint64_t location::load(std::memory_order order, source at) const noexcept {
    order = order_of("load", order, false, at);
    turn t(*this, "load", order, at);
    t.choose(access::load, order);
    const std::uint64_t value = t.is(how::outdated) ? initial_ : t.seen();
    t.load(order);
    return value;
}

void location::store(std::uint64_t desired, std::memory_order order, source at) noexcept {
    order = order_of("store", order, false, at);
    turn t(*this, "store", order, at);
    if (t.is(how::left_out))
        return;
    t.choose(access::store, order);
    t.store(*this, order, desired);
}

template <class Compute>
std::uint64_t location::replace(const char* what, const Compute& compute, std::memory_order order,
                                source at) noexcept {
    order = order_of(what, order, false, at);
    turn t(*this, what, order, at);
    const bool in_two = t.is(how::in_two);
    t.choose(in_two || t.is(how::left_out) ? access::load : access::modify, order);
    const std::uint64_t before = t.seen();
    if (in_two || t.is(how::left_out))
        t.load(order);
    if (in_two) {
        turn later(*this, "store", order, at);
        later.choose(access::store, order);
        later.store(*this, order, compute(before));
    } else if (!t.is(how::left_out)) {
        t.store(*this, order, compute(before));
    }
    return before;
}

std::uint64_t location::exchange(std::uint64_t desired, std::memory_order order, source at) noexcept {
    return replace("exchange", [=](std::uint64_t) { return desired; }, order, at);
}

bool location::compare_exchange(std::uint64_t& expected, std::uint64_t desired,
                                std::memory_order success, std::memory_order failure,
                                source at) noexcept {
    success = order_of("compare_exchange", success, false, at);
    failure = order_of("compare_exchange", failure, true, at);
    turn t(*this, "compare_exchange", success, at);
    if (t.is(how::left_out)) {
        t.choose(access::load, success);
        t.seen();
        t.load(success);
        return true;
    }
    const bool compares = !t.is(how::unconditional);
    const access kind = t.choose(access::modify, success,
                                 compares ? std::optional(expected) : std::nullopt, failure);
    const std::uint64_t before = t.seen();
    if (kind == access::load) {
        expected = before;
        last_step().note = ", fails";
        t.load(failure);
        return false;
    }
    if (t.is(how::in_two)) {
        t.load(success);
        turn later(*this, "store", success, at);
        later.choose(access::store, success);
        later.store(*this, success, desired);
        return true;
    }
    t.store(*this, success, desired);
    return true;
}

void location::wait_until(bool (*ready)(std::uint64_t), source at) const noexcept {
    struct wait {
        const location& at;
        bool (*ready)(std::uint64_t);
    };
    const wait w{*this, ready};
    await_turn(
        {"wait", this, at, type_},
        [](const void* p) {
            const wait& it = *static_cast<const wait*>(p);
            return it.ready(it.at.peek());
        },
        &w);
    check_alive(is_alive());
}

std::uint64_t location::modify(arithmetic what, std::uint64_t operand, std::uint64_t mask,
                               std::memory_order order, source at) noexcept {
    const auto compute = [=](std::uint64_t before) {
        switch (what) {
        case arithmetic::add: return (before + operand) & mask;
        case arithmetic::subtract: return (before - operand) & mask;
        case arithmetic::set_bits: return before | operand;
        default: return before & operand;
        }
    };
    return replace("modify", compute, order, at);
}

// --- mutex ---

void mutex::end() noexcept {
    if (locked_)
        fail("mutex", "it is destroyed while it is locked");
    alive_ = 0;
}

void mutex::lock(source at) noexcept {
    const operation o{"lock", this, at, "mutex"};
    if (is_spoiled(o, how::left_out)) {
        await_turn(o);
        return;
    }
    await_turn(o, [](const void* m) { return !static_cast<const mutex*>(m)->locked_; }, this);
    check_alive(alive_ == alive_mark);
    locked_ = true;
    enter();
}

void mutex::enter() noexcept {
    memory::look_at_load(&alive_, sizeof alive_); // it has to be made before, and destroyed after
    if (execution_ != 0 && execution_ == execution())
        now().join(known_);
}

bool mutex::try_lock(source at) noexcept {
    await_turn({"try_lock", this, at, "mutex"});
    check_alive(alive_ == alive_mark);
    if (locked_) {
        last_step().note = ", fails";
        return false;
    }
    locked_ = true;
    enter();
    return true;
}

void mutex::unlock(source at) noexcept {
    const operation o{"unlock", this, at, "mutex"};
    await_turn(o);
    check_alive(alive_ == alive_mark);
    locked_ = false;
    if (execution() != 0) {
        execution_ = execution();
        known_ = now();
    }
    others_may_go();
}

// --- futex ---

namespace {

struct sleeper {
    const void* address;
    bool woken;
    sleeper* next;
    knowledge known = {}; // of who woke it
};

sleeper* sleepers = nullptr; // in the order in which they fell asleep; each on its thread's stack

} // namespace

bool futex_wait(const void* address, const location& word, std::uint64_t expected, time_limit limit,
                source at) noexcept {
    const operation o{"futex wait", address, at, "futex"};
    await_turn(o);
    check_alive(word.is_alive());
    last_step().seen = word.peek();
    word.show_latest();
    if (word.peek() != expected && !is_spoiled(o, how::unconditional))
        return true;

    sleeper self{address, false, nullptr};
    sleeper** end = &sleepers;
    while (*end != nullptr)
        end = &(*end)->next;
    *end = &self;
    const auto woken = [](const void* s) { return static_cast<const sleeper*>(s)->woken; };
    const bool in_time = await_turn({"futex sleep", address, at, "futex"}, woken, &self, limit);
    nothing_done();
    if (in_time) {
        word.show_latest();
        if (execution() != 0)
            now().join(self.known);
    } else {
        last_step().note = ", time is up";
        sleeper** at_self = &sleepers;
        while (*at_self != &self)
            at_self = &(*at_self)->next;
        *at_self = self.next;
    }
    return in_time;
}

void futex_wake(const void* address, int count, source at) noexcept {
    const operation o{"futex wake", address, at, "futex"};
    await_turn(o);
    if (is_spoiled(o, how::left_out))
        return;
    for (sleeper** s = &sleepers; *s != nullptr && count > 0;) {
        if ((*s)->address == address) {
            (*s)->woken = true;
            if (execution() != 0)
                (*s)->known = now();
            *s = (*s)->next;
            --count;
        } else {
            s = &(*s)->next;
        }
    }
    others_may_go();
}

void heavy_barrier(source at) noexcept {
    const operation o{"heavy barrier", nullptr, at};
    await_turn(o);
    if (!is_spoiled(o, how::left_out))
        tell_all();
}

// --- a scenario's own steps ---

void yield(source at) { await_others({"yield", nullptr, at}); }

void detail::begin_own_step(condition ready, const void* argument, const char* what, const void* object,
                            source at) {
    magpie_model::await_turn({what, object, at}, ready, argument);
    magpie_model::begin_own_step();
}

void detail::end_own_step() {
    magpie_model::end_own_step();
    others_may_go();
}

void detail::begin_free_step(condition ready, const void* argument, const char* what,
                             const void* object, source at) {
    magpie_model::await_turn({what, object, at}, ready, argument);
}

void detail::end_free_step() { others_may_go(); }

void baton::pass() noexcept {
    if (execution() != 0)
        known_ = now();
}

void baton::take() const noexcept {
    if (execution() != 0)
        now().join(known_);
}

void detail::know_all() { magpie_model::know_all(); }

} // namespace magpie_model
