#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <csignal>
#include <cstdint>

namespace magpie::io::detail {

/// Where the signal handler leaves what one listener has to be told: a bit for each signal, and then
/// an event on an eventfd of the listener's.
///
/// Slots are never unmapped, for a handler may look at any of them at any time. They are used again,
/// so there are as many as there were ever listeners at once.
class signal_slot {
public:
    /// A slot that is told of the signals of the mask from here on. @throws std::bad_alloc
    static signal_slot& open(std::uint64_t wanted, int eventfd);
    /// Gives it back. When it returns no handler uses the eventfd any more, and none will.
    void close() noexcept;

    /// Takes one of the signals that have come, the lowest first; 0: none has.
    int take() noexcept;
    /// Puts one back that was taken.
    void give_back(int signal) noexcept { tell(bit(signal)); }

    /// What the handler does for each slot.
    void deliver(int signal) noexcept;

    static constexpr std::uint64_t bit(int signal) noexcept { return std::uint64_t{1} << (signal - 1); }

private:
    friend struct signal_block;

    void tell(std::uint64_t bit) noexcept;

    // I1. While `inside_` is not 0 and `wanted_` was found not to be 0 afterwards, the slot is open and
    //     `eventfd_` belongs to its listener: close() takes `wanted_` back and then waits for
    //     `inside_` to be 0. Each writes one and then reads the other, seq_cst: one sees the other.
    // I2. A bit is set before the eventfd is written. Whoever has emptied that and then finds no bit has
    //     a write before it, and so an event, when one is set later.
    magpie::detail::atomic<std::uint64_t> wanted_{0};
    magpie::detail::atomic<std::uint64_t> pending_{0};
    magpie::detail::atomic<std::uint32_t> inside_{0};
    int eventfd_ = -1;  // published by wanted_
    bool used_ = false; // guarded by the table's lock

    static_assert(magpie::detail::atomic<std::uint64_t>::is_always_lock_free,
                  "a signal handler must not lock");
};

/// @throws std::invalid_argument for a signal that cannot be listened to, and for what is none
void check_signal(int signal);

/// Sees to it that the process's handler for `signal`, which was checked, is ours: from now on and for
/// ever. @throws std::invalid_argument if the C library does not give it away
void install_handler(int signal);

} // namespace magpie::io::detail
