#pragma once

#include <magpie/io/detail/io_operation.hpp>
#include <magpie/io/readiness.hpp>

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>

#include <cstddef>
#include <cstdint>

namespace magpie::io::detail {

class reactor;
class registration_page;

/// What is known of one descriptor, for as long as it is registered: which events were seen since it
/// was last found empty (full), and who waits for the next one.
///
/// The task makes the system calls. It makes none when nothing was heard since the last one that
/// blocked, and it waits by putting its leaf here. Wait and event are one compare-and-swap and one
/// exchange on one word; no lock, while one operation a direction waits.
///
/// A connection that is idle is mostly this and its task. So what is rarely used stands once for all that
/// are in the same page (`registration_page`), and each stands in one.
class registration {
public:
    using word = std::uint64_t;
    using flag = std::uint8_t;

    static constexpr std::size_t reading = 0; // indices of the two words
    static constexpr std::size_t writing = 1;

    // Flags. The first two and `urgent` come before the event that tells of them.
    static constexpr flag read_closed = 1;  // the peer will send no more
    static constexpr flag write_closed = 2; // the peer will take no more
    static constexpr flag urgent = 4;       // a short read does not mean that it is empty
    static constexpr flag shut_down = 8;    // the runtime is gone: nothing waits any more
    static constexpr flag told = 16;        // the reactor has to be told of each wait
    static constexpr flag has_others = 32;  // there may be more who wait, in the page's list
    // These two can be forgotten, and are written under the page's lock.
    static constexpr flag has_priority = 64;
    static constexpr flag has_error = 128;

    static bool is_event(word w) noexcept { return (w & 1) != 0; }
    /// The flags for priority (1) and error (2).
    static constexpr flag extra_flags(unsigned bits) noexcept { return static_cast<flag>(bits << 6); }
    /// Whether one of the conditions that `what` names holds, or nothing will ever hold any more.
    static bool any(const look& l, unsigned char what) noexcept;

    registration() noexcept = default;
    registration(const registration&) = delete;
    registration& operator=(const registration&) = delete;

    // --- its owner ---

    /// @param flags  0 or `told`
    void open(int fd, bool writable, flag flags = 0) noexcept;
    int fd() const noexcept { return fd_; }
    reactor& where() const noexcept;

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
    flag flags() const noexcept {
        return flags_.load(std::memory_order_relaxed); // (E), by the word that was read before
    }
    /// The system call that followed the look has found nothing (no room): forgets the event it was
    /// made for, unless there was another one since.
    void forget(std::size_t direction, word seen) noexcept;
    /// The same for priority (1) and error (2). They are kept, too, if another descriptor of the page had such
    /// an event since: then the caller finds nothing a second time.
    void forget_extra(std::uint64_t seen, unsigned bits) noexcept;

    /// Waits. False if there is something to look at instead.
    bool wait(io_operation& op) noexcept;
    cancel_answer withdraw(io_operation& op) noexcept;

    // --- the reactor ---

    /// An event. @param events  EPOLL bits @param tick  greater than ever before
    void dispatch(std::uint32_t events, std::uint64_t tick) noexcept;

    /// Ends all waits and every later one.
    void fail() noexcept;

    // --- the pool, while it is nobody's ---

    std::uint32_t next() const noexcept { return next_; }
    void set_next(std::uint32_t number) noexcept { next_ = number; }

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
    // (E) event -> operation: the exchange (release) pairs with the load of the word: the flags that came
    //     with the event are seen, and the page's tick for priority and error.
    // (W) waiter -> event: the CAS (release) pairs with the exchange (acquire): it sees the leaf bound.
    // (O) others: under the page's lock, who waits sets the flag `has_others`, then reads the words; an
    //     event writes the words, then reads the flag. All seq_cst: one of the two sees the other. Who
    //     sees the flag takes the lock, and finds in the list what was put there under it.
    static constexpr word nothing = 0;
    static io_operation* waiter(word w) noexcept {
        return is_event(w) ? nullptr : reinterpret_cast<io_operation*>(static_cast<std::uintptr_t>(w));
    }

    registration_page& page() const noexcept;
    bool enter(io_operation& op) noexcept;
    bool join_others(io_operation& op) noexcept;
    void wake_others(unsigned char what) noexcept;
    void set_word(std::size_t direction, std::uint64_t tick) noexcept;

    magpie::detail::atomic<word> words_[2] = {};
    union {
        int fd_ = -1;
        std::uint32_t next_; // in a list of the pool's
    };
    magpie::detail::atomic<std::uint16_t> references_{1};
    magpie::detail::atomic<flag> flags_{0};
};

/// A page of registrations, and what stands there once for all of them.
class alignas(4096) registration_page {
public:
    static constexpr std::size_t bytes = 4096;

    /// @param n  of registration_directory
    registration_page(reactor* r, std::uint32_t n) noexcept : where(r), number(n) {}
    registration_page(const registration_page&) = delete;
    registration_page& operator=(const registration_page&) = delete;

    static registration_page& of(const registration& r) noexcept {
        return *reinterpret_cast<registration_page*>(reinterpret_cast<std::uintptr_t>(&r) &
                                                     ~(std::uintptr_t{bytes} - 1));
    }

    reactor* const where;
    const std::uint32_t number;
    magpie::detail::spin_lock lock;
    // Who waits for one of `all` and does not stand in its word: for several conditions, or as the second
    // in a direction. The newest first. Written under the lock.
    magpie::detail::atomic<io_operation*> others{nullptr};
    // The last event that told of priority or an error, of any of `all`. Written under the lock.
    magpie::detail::atomic<std::uint64_t> extra_tick{0};

    static constexpr std::size_t count = bytes / sizeof(registration) - 2;
    registration all[count];
};

static_assert(sizeof(registration_page) == registration_page::bytes);

/// Numbers for all registrations of the process, in half the space of a pointer.
class registration_directory {
public:
    static std::uint32_t number_of(const registration& r) noexcept {
        const registration_page& p = registration_page::of(r);
        return p.number * places + static_cast<std::uint32_t>(&r - p.all);
    }
    /// Of a page that was entered, before the number came to the caller.
    static registration& at(std::uint32_t number) noexcept {
        return entries_[number / places].page->all[number % places];
    }

    /// A number for a page. From any thread. @throws std::bad_alloc
    static std::uint32_t take();
    static void give_back(std::uint32_t page) noexcept;
    static void enter(registration_page& p) noexcept { entries_[p.number].page = &p; }

private:
    static constexpr std::uint32_t places = 256;
    static_assert(registration_page::count <= places);
    static constexpr std::uint32_t most_pages = 1U
                                                << 16; // of 168 descriptors each: more than there are

    union entry {
        registration_page* page;
        std::uint32_t next; // of those that were given back; most_pages: none
    };
    static entry entries_[most_pages]; // half a megabyte of which hardly anything is touched
    static magpie::detail::spin_lock lock_;
    static std::uint32_t free_; // guarded by lock_, as the next
    static std::uint32_t used_;
};

inline registration_page& registration::page() const noexcept { return registration_page::of(*this); }
inline reactor& registration::where() const noexcept { return *page().where; }

} // namespace magpie::io::detail
