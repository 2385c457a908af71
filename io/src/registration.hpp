#pragma once

#include <magpie/io/detail/io_operation.hpp>
#include <magpie/io/readiness.hpp>

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>

#include <cstddef>
#include <cstdint>

namespace magpie::io::detail {

class reactor;

/// What is known of one descriptor, for as long as it is registered: which events were seen since it
/// was last found empty (full), and who waits for the next one.
///
/// The task makes the system calls. It makes none when nothing was heard since the last one that
/// blocked, and it waits by putting its leaf here. Wait and event are one compare-and-swap and one
/// exchange on one word; no lock, while one operation a direction waits.
class alignas(64) registration {
public:
    using word = std::uint64_t;

    static constexpr std::size_t reading = 0; // indices of the two words
    static constexpr std::size_t writing = 1;

    // Flags. All but `urgent` come before the event that tells of them.
    static constexpr std::uint32_t read_closed = 1;  // the peer will send no more
    static constexpr std::uint32_t write_closed = 2; // the peer will take no more
    static constexpr std::uint32_t urgent = 4;       // a short read does not mean that it is empty
    static constexpr std::uint32_t shut_down = 8;    // the runtime is gone: nothing waits any more
    static constexpr std::uint32_t told = 16;        // the reactor has to be told of each wait

    static bool is_event(word w) noexcept { return (w & 1) != 0; }
    /// Whether one of the conditions that `what` names holds, or nothing will ever hold any more.
    static bool any(const look& l, unsigned char what) noexcept;

    registration() noexcept = default;
    registration(const registration&) = delete;
    registration& operator=(const registration&) = delete;

    // --- its owner ---

    /// @param flags  0 or `told`
    void open(reactor* r, int fd, bool writable, std::uint32_t flags = 0) noexcept;
    int fd() const noexcept { return fd_; }
    reactor& where() const noexcept { return *reactor_; }

    /// Further owners, for halves of a stream.
    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller has one already
    }
    /// True for the last owner.
    bool release() noexcept {
        // Release and acquire pair with each other: the last one closes what all have used.
        return references_.load(std::memory_order_acquire) == 1 ||
               references_.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }
    /// Whether an operation waits: then it must not go.
    bool is_waited_for() const noexcept;

    // --- operations ---

    look see() const noexcept;
    word seen(std::size_t direction) const noexcept {
        return words_[direction].load(std::memory_order_acquire); // (E)
    }
    std::uint32_t flags() const noexcept {
        return flags_.load(std::memory_order_relaxed); // (E), by the word that was read before
    }
    /// The system call that followed the look has found nothing (no room): forgets the event it was
    /// made for, unless there was another one since.
    void forget(std::size_t direction, word seen) noexcept;
    /// The same for priority (1) and error (2).
    void forget_extra(std::uint64_t seen, std::uint64_t bits) noexcept;

    /// Waits. False if there is something to look at instead.
    bool wait(io_operation& op) noexcept;
    cancel_answer withdraw(io_operation& op) noexcept;

    // --- the reactor ---

    /// An event. @param events  EPOLL bits @param tick  greater than ever before
    void dispatch(std::uint32_t events, std::uint64_t tick) noexcept;

    /// Ends all waits and every later one.
    void fail() noexcept;

    registration* next_free = nullptr; // in the reactor's lists

private:
    // A word is one of
    //   0             nothing was heard since a system call found nothing, and nobody waits
    //   tick * 2 + 1  the event `tick` was the last one, and no later call has found nothing
    //   other         the address of an operation that waits; otherwise as 0
    //
    // I1. 0 or a waiter: whatever the descriptor has to give has come after the call that found
    //     nothing, and its event has not been dispatched yet. (`forget` fails if there was an event
    //     between the look and itself; an event dispatched later changes the word.)
    // I2. A waiter enters by CAS from 0, and leaves by the exchange of an event, which wakes it, or
    //     by its own CAS back to 0. So nobody wakes what was withdrawn.
    // I3. Ticks do not come back: a word that is found unchanged was not changed.
    //
    // (E) event -> operation: the exchange (release) pairs with the load of the word: flags and extra
    //     conditions that came with the event are seen.
    // (W) waiter -> event: the CAS (release) pairs with the exchange (acquire): it sees the leaf bound.
    // (O) others: who waits writes the list, then reads the words; an event writes the words, then
    //     reads the list. All seq_cst: one of the two sees the other.
    static constexpr word nothing = 0;
    static io_operation* waiter(word w) noexcept {
        return is_event(w) ? nullptr : reinterpret_cast<io_operation*>(static_cast<std::uintptr_t>(w));
    }

    bool enter(io_operation& op) noexcept;
    bool join_others(io_operation& op) noexcept;
    void wake_others(unsigned char what) noexcept;
    void set_word(std::size_t direction, std::uint64_t tick) noexcept;

    magpie::detail::atomic<word> words_[2] = {};
    magpie::detail::atomic<std::uint64_t> extra_{0};        // tick * 4 + error * 2 + priority
    magpie::detail::atomic<io_operation*> others_{nullptr}; // written under lock_
    reactor* reactor_ = nullptr;
    magpie::detail::atomic<std::uint32_t> flags_{0};
    int fd_ = -1;
    magpie::detail::atomic<std::uint16_t> references_{1};
    magpie::detail::spin_lock lock_;
};

} // namespace magpie::io::detail
