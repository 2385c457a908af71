#pragma once

#include <magpie_model/clock.hpp>

#include <array>
#include <atomic> // std::memory_order
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

// What C++20 says about atomics (intro.races, atomics.order), for one execution. Threads take their steps
// one after the other, so no load reads what is stored by a later step ("load buffering", which C++
// allows, is out of reach); all else that C++20 allows is among the places that an operation has here.
//
// Each atomic keeps its stores in modification order. That need not be the order of the steps: a store may go
// before others that the storing thread does not know of. A load reads any store that nothing which it
// knows of has replaced. It knows what happens before it: knowledge goes from a release store, and the
// read-modify-writes that follow it, to an acquire load.
//
// The single order S of the seq_cst operations is not that of the steps either. Only what it has to keep is
// written down: of two of them, one strongly happens before the other, or comes first in the order of one
// atomic's stores and the loads between them. A place that would close a circle is none.
//
// One thing is allowed here that C++20 is not: a seq_cst load of what its own thread has just stored by a plain
// store that is not seq_cst says nothing of other threads. That is what such loads are compiled to on x86-64: the
// store still stands in the processor's buffer, and the load reads it there (litmus.read_back).

namespace magpie_model {

enum class access : unsigned char { load, store, modify };

/// Where an operation may go: behind the first `index` stores of its atomic. A load or modify reads the
/// last of these; a store or modify becomes the next one.
struct place {
    access kind;
    std::size_t index;
};

/// A seq_cst operation: its thread, and the how-manieth of it.
struct sequential {
    std::uint8_t thread = 0;
    clock::time number = 0; // 0: none
};

/// What has happened to one atomic.
class history {
public:
    void begin(std::uint64_t initial);

    std::size_t size() const noexcept { return stores_.size(); }
    std::uint64_t value(std::size_t i) const noexcept { return stores_[i].value; }
    std::size_t step(std::size_t i) const noexcept { return stores_[i].step; }
    std::uint64_t latest() const noexcept { return stores_.back().value; }

private:
    friend class weak_memory;

    struct stored {
        std::uint64_t value = 0;
        std::size_t step = 0; // for traces: the one that stored it; 0: it was there
        clock known;          // for each thread, since when it knows of the store (0: not yet)
        knowledge released;   // for who acquires it
        sequential order;
        std::uint32_t loads = 0;    // the last one in loads_ that reads it, counted from 1
        std::uint32_t buffered = 0; // perhaps, as long as its thread's stores_ say this; 0: never
        std::uint8_t thread = 0;
        bool modified = false; // by a read-modify-write: nothing comes between it and the one before
    };
    struct sequential_load {
        sequential order;
        std::uint32_t next;
        bool from_buffer;
    };

    bool is_known(std::size_t i, const clock& happened) const noexcept;

    std::vector<stored> stores_; // in modification order
    std::vector<sequential_load> loads_;
    bool has_sequential_ = false;
};

class weak_memory {
public:
    /// Forgets the last execution.
    void begin() noexcept;

    /// Makes a history for an atomic that has had none in this execution. Gives its number, from 1.
    std::uint32_t add(std::uint64_t initial);
    history& operator[](std::uint32_t number) noexcept { return histories_[number - 1]; }

    /// The places for an operation of a thread, newest first: that one always is a place. With
    /// `expected`, for a compare-exchange: it only loads where something else is.
    const std::vector<place>& places(const history& h, access kind, std::uint8_t thread,
                                     const knowledge& now, std::memory_order order,
                                     std::optional<std::uint64_t> expected = {},
                                     std::memory_order failure = std::memory_order_relaxed);

    /// Puts the operation there. `desired` is what it stores.
    void put(history& h, place at, std::uint8_t thread, knowledge& now, std::memory_order order,
             std::uint64_t desired = 0, std::size_t step = 0);

    /// For who reads the last store without being an operation of the atomic: the kernel.
    void show_latest(history& h, std::uint8_t thread, const knowledge& now) noexcept;

private:
    void find_order(const history& h, place at, std::uint8_t thread, const knowledge& now);
    bool is_in_buffer(const history& h, place at, std::uint8_t thread) const noexcept;
    bool closes_circle() const noexcept;
    sequential append(std::uint8_t thread);
    void add_before(sequential s) noexcept;
    void add_loads(const history& h, std::size_t store, bool before);
    clock& order_of(sequential s) noexcept { return order_[s.thread][s.number - 1U]; }

    std::vector<history> histories_;
    std::size_t used_ = 0;
    std::vector<place> places_;

    std::array<std::vector<clock>, most_threads> order_; // of each seq_cst operation: what precedes it
    std::array<std::uint32_t, most_threads> stores_{};   // seq_cst ones of each thread, plus 1
    clock before_;                                       // the one at hand: what precedes it
    std::vector<sequential> behind_;                     // ... and what it precedes
};

} // namespace magpie_model
