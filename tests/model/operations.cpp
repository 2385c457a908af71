#include <magpie_model/operations.hpp>

#include "engine.hpp"

#include <utility>

namespace magpie_model {

namespace {

using how = spoiled::how;

const char* name_of(std::memory_order o) noexcept {
    switch (o) {
    case std::memory_order_relaxed: return "relaxed";
    case std::memory_order_consume: return "consume";
    case std::memory_order_acquire: return "acquire";
    case std::memory_order_release: return "release";
    case std::memory_order_acq_rel: return "acq_rel";
    default: return "seq_cst";
    }
}

void check_alive(bool alive) noexcept {
    if (!alive)
        fail("use after free", "an operation on something that is gone");
}

operation begin(const location& l, const char* what, std::memory_order order, source at) noexcept {
    const operation o{what, &l, at, l.type(), name_of(order)};
    await_turn(o);
    check_alive(l.is_alive());
    return o;
}

} // namespace

// --- atomics ---

void location::end() noexcept { alive_ = 0; }

std::uint64_t location::load(std::memory_order order, source at) const noexcept {
    const operation o = begin(*this, "load", order, at);
    const std::uint64_t value = is_spoiled(o, how::outdated) ? initial_ : value_;
    last_step().seen = value;
    return value;
}

void location::store(std::uint64_t desired, std::memory_order order, source at) noexcept {
    const operation o = begin(*this, "store", order, at);
    if (is_spoiled(o, how::left_out))
        return;
    value_ = desired;
    last_step().written = desired;
    others_may_go();
}

std::uint64_t location::exchange(std::uint64_t desired, std::memory_order order, source at) noexcept {
    const operation o = begin(*this, "exchange", order, at);
    const std::uint64_t before = value_;
    last_step().seen = before;
    if (is_spoiled(o, how::left_out))
        return before;
    if (is_spoiled(o, how::in_two))
        begin(*this, "store", order, at);
    value_ = desired;
    last_step().written = desired;
    others_may_go();
    return before;
}

bool location::compare_exchange(std::uint64_t& expected, std::uint64_t desired,
                                std::memory_order success, std::memory_order, source at) noexcept {
    const operation o = begin(*this, "compare_exchange", success, at);
    last_step().seen = value_;
    if (is_spoiled(o, how::left_out))
        return true;
    if (value_ != expected && !is_spoiled(o, how::unconditional)) {
        expected = value_;
        last_step().note = ", fails";
        return false;
    }
    if (is_spoiled(o, how::in_two))
        begin(*this, "store", success, at);
    value_ = desired;
    last_step().written = desired;
    others_may_go();
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
    const operation o = begin(*this, "modify", order, at);
    const std::uint64_t before = value_;
    last_step().seen = before;
    if (is_spoiled(o, how::left_out))
        return before;
    if (is_spoiled(o, how::in_two))
        begin(*this, "store", order, at);
    switch (what) {
    case arithmetic::add: value_ = (before + operand) & mask; break;
    case arithmetic::subtract: value_ = (before - operand) & mask; break;
    case arithmetic::set_bits: value_ = before | operand; break;
    case arithmetic::keep_bits: value_ = before & operand; break;
    }
    last_step().written = value_;
    others_may_go();
    return before;
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
}

bool mutex::try_lock(source at) noexcept {
    await_turn({"try_lock", this, at, "mutex"});
    check_alive(alive_ == alive_mark);
    if (locked_)
        last_step().note = ", fails";
    return !std::exchange(locked_, true);
}

void mutex::unlock(source at) noexcept {
    const operation o{"unlock", this, at, "mutex"};
    await_turn(o);
    check_alive(alive_ == alive_mark);
    locked_ = false;
    others_may_go();
}

// --- futex ---

namespace {

struct sleeper {
    const void* address;
    bool woken;
    sleeper* next;
};

sleeper* sleepers = nullptr; // in the order in which they fell asleep; each on its thread's stack

} // namespace

bool futex_wait(const void* address, const location& word, std::uint64_t expected, time_limit limit,
                source at) noexcept {
    const operation o{"futex wait", address, at, "futex"};
    await_turn(o);
    check_alive(word.is_alive());
    last_step().seen = word.peek();
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
    if (!in_time) {
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
            *s = (*s)->next;
            --count;
        } else {
            s = &(*s)->next;
        }
    }
    others_may_go();
}

// --- a scenario's own steps ---

void yield(source at) { await_others({"yield", nullptr, at}); }

void detail::await_turn(condition ready, const void* argument, const char* what, const void* object,
                        source at) {
    magpie_model::await_turn({what, object, at}, ready, argument);
}

void detail::others_may_go() { magpie_model::others_may_go(); }

} // namespace magpie_model
