#pragma once

#include <magpie_model/operations.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <source_location>
#include <string_view>

// What a scenario is written with. Its body is run again and again, each time in another
// interleaving; it must do the same whenever its threads take their steps in the same order.

namespace magpie_model {

void look_at_load(const void* address, std::size_t size) noexcept;
void look_at_store(const void* address, std::size_t size) noexcept;

/// Adds a thread, which begins in `run()`; at once, if one of the threads adds it.
void thread(std::string_view name, std::function<void()> body);

/// Adds threads that do the same, so that it makes no difference which of them begins.
void threads(int count, std::string_view name, const std::function<void()>& body);

/// Runs the threads to their ends. The body itself waits here; before and behind, it runs alone.
void run();

/// What has to hold.
void check(bool holds, const char* sentence, source at = source::current());

/// Notes what came of an execution: a digit each. Once an execution.
void outcome(std::initializer_list<int> digits);

/// A variable of a scenario's that its threads may use only one after the other: what is not ordered is
/// reported as a data race. The explorer knows of the product's own plain data without this.
template <class T>
class plain {
public:
    explicit plain(T initial = T()) : value_(initial) {}
    plain(const plain&) = delete;
    plain& operator=(const plain&) = delete;

    T get() const {
        look_at_load(&value_, sizeof value_);
        return value_;
    }
    void set(T value) {
        look_at_store(&value_, sizeof value_);
        value_ = value;
    }

private:
    T value_;
};

/// Ends the exploration: the schedule at hand shows a mistake of the given kind.
[[noreturn]] void fail(const char* kind, std::string_view text) noexcept;

/// Gives an object the name that traces show for what is in it.
void name(const void* object, std::size_t size, std::string_view name);

/// A step of a scenario's own structures, in which `effect()` happens. These steps happen one after the
/// other, as if under one lock.
template <class Effect>
void step(const char* what, const void* object, const Effect& effect, source at = source::current());

/// Waits until `ready()` holds, which must have no effect. What follows, up to the next operation,
/// happens in the same step. It is the scenario that waits, so all that was done before happens before.
template <class Ready>
void step_when(const Ready& ready, const char* what, const void* object, source at = source::current());

/// The same, but only what happens before other steps of the scenario's own happens before: for a
/// structure that stands in place of one of the product's.
template <class Ready>
void own_step_when(const Ready& ready, const char* what, const void* object,
                   source at = source::current());

/// A step of the scenario's own that orders nothing: what it hands over goes by a `baton`.
template <class Effect>
void free_step(const char* what, const void* object, const Effect& effect,
               source at = source::current());

/// Waits until `ready()` holds, and orders nothing either.
template <class Ready>
void free_step_when(const Ready& ready, const char* what, const void* object,
                    source at = source::current());

/// What happens before `pass` happens before a later `take`: as through a queue. In steps only.
class baton {
public:
    void pass() noexcept;
    void take() const noexcept;

private:
    knowledge known_;
};

/// Lets the others go first: where a thread that never waits would leave them no turn for ever.
void yield(source at = source::current());

/// A mistake in an operation of the product, made by the seam: the product's source is left alone.
struct spoiled {
    enum class how : unsigned char {
        left_out,      ///< it does nothing; a compare-exchange claims to have succeeded
        in_two,        ///< a read-modify-write is a load, and a store as a later step
        unconditional, ///< a compare-exchange stores without comparing; a futex sleeps without
        outdated,      ///< a load gives what was there at the beginning
    };
    const char* function; ///< part of the name of the function that has the operation
    const char* what;     ///< "load", "store", "exchange", "compare_exchange", "modify", "lock", ...
    how effect;
    /// Only in a thread that has made a step in the function `after`, and none in `until` since: what it
    /// asks again before it parks, say.
    const char* after = nullptr;
    const char* until = nullptr;
};

/// Which waits with a limit may time out. What would make up for a lost wake-up is left out.
enum class timeouts : unsigned char {
    none,
    soon, ///< those with a limit of some milliseconds
    all,
};

/// A named body, in every interleaving with few preemptions. A static object in the one file that
/// has the scenario; that is all it takes to add one.
class scenario {
public:
    struct bounds {
        unsigned preemptions =
            3;             ///< how often a thread has to wait that could run on, or sees old values
        unsigned full = 5; ///< the same with `--full`
        std::uint64_t exactly = 0; ///< how many executions there have to be, if that is known
        timeouts which = timeouts::all;
        const char* outcomes = nullptr; ///< what there has to be, and nothing else: "00 01 11"
        bool in_order = false;          ///< loads see the latest store: no weak memory
    };

    scenario(const char* name, void (*body)()) : scenario(name, bounds{}, body) {}
    scenario(const char* name, bounds b, void (*body)());
    scenario(const scenario&) = delete;
    scenario& operator=(const scenario&) = delete;

    const char* const name;
    const bounds limits;
    void (*const body)();
    class mistake* mistakes = nullptr;
    scenario* next = nullptr;
};

/// A mistake that the scenario has to find, or else the scenario is worth nothing: an operation of
/// the product that is spoiled, or a body with the mistake in it.
class mistake {
public:
    mistake(scenario& s, const char* what, spoiled how) : mistake(s, what, how, s.body) {}
    mistake(scenario& s, const char* what, void (*body)()) : mistake(s, what, spoiled{}, body) {}
    mistake(const mistake&) = delete;
    mistake& operator=(const mistake&) = delete;

    const char* const what;
    const spoiled how; ///< `function` is null: nothing is spoiled
    void (*const body)();
    mistake* next = nullptr;

private:
    mistake(scenario& s, const char* w, spoiled h, void (*b)());
};

/// All scenarios, by name.
scenario* all_scenarios() noexcept;

namespace detail {
void begin_own_step(bool (*ready)(const void*), const void* argument, const char* what,
                    const void* object, source at);
void end_own_step();
void begin_free_step(bool (*ready)(const void*), const void* argument, const char* what,
                     const void* object, source at);
void end_free_step();
void know_all();
} // namespace detail

template <class Effect>
void step(const char* what, const void* object, const Effect& effect, source at) {
    detail::begin_own_step(nullptr, nullptr, what, object, at);
    effect();
    detail::end_own_step();
}

template <class Ready>
void own_step_when(const Ready& ready, const char* what, const void* object, source at) {
    detail::begin_own_step([](const void* r) { return (*static_cast<const Ready*>(r))(); }, &ready,
                           what, object, at);
}

template <class Effect>
void free_step(const char* what, const void* object, const Effect& effect, source at) {
    detail::begin_free_step(nullptr, nullptr, what, object, at);
    effect();
    detail::end_free_step();
}

template <class Ready>
void free_step_when(const Ready& ready, const char* what, const void* object, source at) {
    detail::begin_free_step([](const void* r) { return (*static_cast<const Ready*>(r))(); }, &ready,
                            what, object, at);
}

template <class Ready>
void step_when(const Ready& ready, const char* what, const void* object, source at) {
    own_step_when(ready, what, object, at);
    detail::know_all();
}

} // namespace magpie_model
