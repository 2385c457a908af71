#include "registration.hpp"

#include "reactor.hpp"

#include <magpie/io/error.hpp>

#include <magpie/core/config.hpp>

#include <limits>
#include <new>
#include <sys/epoll.h>
#include <system_error>
#include <utility>

namespace magpie::io::detail {

namespace {

std::size_t direction_of(unsigned char what) noexcept {
    return what == waits_for::read ? registration::reading : registration::writing;
}
bool one_direction(unsigned char what) noexcept {
    return what == waits_for::read || what == waits_for::write;
}
registration::flag closed_flag(std::size_t direction) noexcept {
    return direction == registration::reading ? registration::read_closed : registration::write_closed;
}

} // namespace

// --- registration_directory ---

registration_directory::entry registration_directory::entries_[most_pages];
constinit magpie::detail::spin_lock registration_directory::lock_;
constinit std::uint32_t registration_directory::free_ = most_pages;
constinit std::uint32_t registration_directory::used_ = 0;

std::uint32_t registration_directory::take() {
    const magpie::detail::lock_guard guard(lock_);
    if (free_ != most_pages)
        return std::exchange(free_, entries_[free_].next);
    if (used_ == most_pages)
        throw std::bad_alloc();
    return used_++;
}

void registration_directory::give_back(std::uint32_t page) noexcept {
    const magpie::detail::lock_guard guard(lock_);
    entries_[page].next = std::exchange(free_, page);
}

// --- registration ---

bool registration::any(const look& l, unsigned char what) noexcept {
    return ((what & waits_for::read) != 0 &&
            (is_event(l.words[reading]) || (l.flags & read_closed) != 0)) ||
           ((what & waits_for::write) != 0 &&
            (is_event(l.words[writing]) || (l.flags & write_closed) != 0)) ||
           (l.flags & extra_flags(what >> 2U)) != 0 || (l.flags & shut_down) != 0;
}

void registration::open(int fd, bool writable, flag flags) noexcept {
    fd_ = fd;
    references_.store(1, std::memory_order_relaxed); // the reactor's lists have handed it over
    // seq_cst: reactor::add then asks whether the reactor is shut down, which says so and then
    // writes here.
    flags_.store(flags, std::memory_order_seq_cst);
    words_[reading].store(nothing, std::memory_order_seq_cst);
    words_[writing].store(writable ? 1 : nothing, std::memory_order_seq_cst);
}

bool registration::is_waited_for() const noexcept {
    // Relaxed: for a complaint about misuse.
    if (waiter(words_[reading].load(std::memory_order_relaxed)) != nullptr ||
        waiter(words_[writing].load(std::memory_order_relaxed)) != nullptr)
        return true;
    registration_page& here = page();
    if ((flags() & has_others) == 0 || here.others.load(std::memory_order_relaxed) == nullptr)
        return false;
    const magpie::detail::lock_guard guard(here.lock);
    for (const io_operation* o = here.others.load(std::memory_order_relaxed); o != nullptr;
         o = o->next())
        if (o->registration_ == this)
            return true;
    return false;
}

look registration::see() const noexcept {
    look l{};
    l.words[reading] = words_[reading].load(std::memory_order_seq_cst); // (E), (O)
    l.words[writing] = words_[writing].load(std::memory_order_seq_cst); // (E), (O)
    // Acquire, and before the flags: pairs with dispatch(). With this tick no event is forgotten but those
    // that the flags tell of.
    l.extra = page().extra_tick.load(std::memory_order_acquire);
    l.flags = flags_.load(std::memory_order_relaxed); // (E)
    return l;
}

void registration::forget(std::size_t direction, word seen) noexcept {
    if (is_event(seen)) {
        // Relaxed: what the event carried was read; nothing is published by forgetting it.
        words_[direction].compare_exchange_strong(seen, nothing, std::memory_order_relaxed,
                                                  std::memory_order_relaxed);
    } else {
        // Nothing had to be tried but for the flag: the other end was opened again (a FIFO's).
        // Relaxed: if an event sets it meanwhile, the word says so as well.
        flags_.fetch_and(static_cast<flag>(~closed_flag(direction)), std::memory_order_relaxed);
    }
}

void registration::forget_extra(std::uint64_t seen, unsigned bits) noexcept {
    registration_page& here = page();
    const magpie::detail::lock_guard guard(here.lock);
    // Relaxed: written under the lock; what the event carried was read.
    if (here.extra_tick.load(std::memory_order_relaxed) == seen)
        flags_.fetch_and(static_cast<flag>(~extra_flags(bits)), std::memory_order_relaxed);
}

bool registration::wait(io_operation& op) noexcept {
    if ((flags_.load(std::memory_order_relaxed) & told) == 0) [[likely]] // that flag does not change
        return enter(op);
    // Behind the entry: an event before it may have been forgotten again. By then the operation may be
    // gone, and the registration be another descriptor's; the reactor is kept.
    const unsigned char what = op.what_;
    reactor& r = where();
    r.retain();
    const bool waits = enter(op);
    if (waits)
        r.waited_for(*this, what);
    r.release();
    return waits;
}

bool registration::enter(io_operation& op) noexcept {
    if (!one_direction(op.what_))
        return join_others(op);
    word seen = nothing;
    // Success: (W). Failure: an event came after the look. Relaxed: who is told so looks again.
    if (words_[direction_of(op.what_)].compare_exchange_strong(
            seen, reinterpret_cast<std::uintptr_t>(&op), std::memory_order_release,
            std::memory_order_relaxed))
        return true;
    return !is_event(seen) && join_others(op); // someone else waits there
}

bool registration::join_others(io_operation& op) noexcept {
    registration_page& here = page();
    const magpie::detail::lock_guard guard(here.lock);
    flags_.fetch_or(has_others, std::memory_order_seq_cst); // (O)
    if (any(see(), op.what_))
        return false; // should nobody else wait, an event takes the flag back
    op.set_next_waiting(here.others.load(std::memory_order_relaxed)); // written under the lock
    here.others.store(&op, std::memory_order_relaxed);
    op.listed_ = true;
    return true;
}

cancel_answer registration::withdraw(io_operation& op) noexcept {
    if (one_direction(op.what_)) {
        word expected = reinterpret_cast<std::uintptr_t>(&op);
        // Relaxed: nobody learns anything by it. On failure the operation is in a waker's hand, and
        // surfaces; or among the others.
        if (words_[direction_of(op.what_)].compare_exchange_strong(
                expected, nothing, std::memory_order_relaxed, std::memory_order_relaxed))
            return cancel_answer::quiet;
    }
    registration_page& here = page();
    const magpie::detail::lock_guard guard(here.lock);
    if (!std::exchange(op.listed_, false))
        return cancel_answer::coming;
    io_operation* const first = here.others.load(std::memory_order_relaxed); // written under the lock
    if (first == &op) {
        here.others.store(op.next(), std::memory_order_relaxed);
        return cancel_answer::quiet;
    }
    for (io_operation* o = first; o != nullptr; o = o->next())
        if (o->next() == &op)
            o->set_next_waiting(op.next());
    return cancel_answer::quiet;
}

void registration::set_word(std::size_t direction, std::uint64_t tick) noexcept {
    // Release: (E). Acquire: (W). seq_cst: (O).
    const word before = words_[direction].exchange(tick << 1 | 1, std::memory_order_seq_cst);
    if (io_operation* const op = waiter(before))
        wake(*op);
}

void registration::dispatch(std::uint32_t events, std::uint64_t tick) noexcept {
    flag sticky = 0;
    if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0)
        sticky |= read_closed;
    if ((events & EPOLLHUP) != 0 || ((events & EPOLLERR) != 0 && (events & EPOLLOUT) != 0) ||
        events == EPOLLERR)
        sticky |= write_closed;
    if ((events & EPOLLPRI) != 0)
        sticky |= urgent;
    if (sticky != 0)
        flags_.fetch_or(sticky, std::memory_order_relaxed); // published by the words: (E)

    unsigned char what = 0;
    if (const unsigned bits = ((events & EPOLLPRI) != 0 ? 1U : 0U) |
                              ((events & EPOLLERR) != 0 ? 2U : 0U);
        bits != 0) {
        what |= static_cast<unsigned char>(bits << 2);
        registration_page& here = page();
        const magpie::detail::lock_guard guard(here.lock);
        flags_.fetch_or(extra_flags(bits), std::memory_order_relaxed); // as above
        // Release: who sees the tick sees the flags that it stands for; pairs with see().
        here.extra_tick.store(tick, std::memory_order_release);
    }
    constexpr std::uint32_t both = EPOLLHUP | EPOLLERR;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI | both)) != 0) {
        what |= waits_for::read;
        set_word(reading, tick);
    }
    if ((events & (EPOLLOUT | both)) != 0) {
        what |= waits_for::write;
        set_word(writing, tick);
    }
    // Whoever was woken may have closed the descriptor by now; the registration stays what it is
    // until the reactor's next turn.
    if ((flags_.load(std::memory_order_seq_cst) & has_others) != 0) [[unlikely]] // (O)
        wake_others(what);
}

void registration::wake_others(unsigned char what) noexcept {
    registration_page& here = page();
    io_operation* taken = nullptr;
    {
        const magpie::detail::lock_guard guard(here.lock);
        bool some_left = false;
        io_operation* before = nullptr; // the last that stays
        io_operation* next = nullptr;
        // The newest is first, and `taken` comes out reversed: the first to wait is woken first.
        for (io_operation* o = here.others.load(std::memory_order_relaxed); o != nullptr; o = next) {
            next = o->next();
            const bool ours = o->registration_ == this;
            if (!ours || (o->what_ & what) == 0) {
                some_left = some_left || ours;
                before = o;
                continue;
            }
            if (before != nullptr)
                before->set_next_waiting(next);
            else
                here.others.store(next, std::memory_order_relaxed); // written under the lock
            o->listed_ = false;
            o->set_next_waiting(taken);
            taken = o;
        }
        if (!some_left) // relaxed: who joins sets it anew, under the lock
            flags_.fetch_and(static_cast<flag>(~has_others), std::memory_order_relaxed);
    }
    while (taken != nullptr) {
        io_operation* const next = taken->next(); // before the wake, which may free it
        wake(*taken);
        taken = next;
    }
}

void registration::fail() noexcept {
    // seq_cst: see open(). Published by the words: (E).
    flags_.fetch_or(shut_down, std::memory_order_seq_cst);
    constexpr std::uint64_t last_tick = std::numeric_limits<std::uint64_t>::max() >> 1;
    set_word(reading, last_tick);
    set_word(writing, last_tick);
    // Relaxed: the sign above went into the same atomic. Who joins the others behind it sees it; of who did
    // before it, this load cannot miss the flag.
    if ((flags_.load(std::memory_order_relaxed) & has_others) != 0)
        wake_others(0xff);
}

// --- io_operation ---

bool io_operation::try_complete() noexcept {
    if (registration_ == nullptr && begin()) [[unlikely]]
        return true;
    registration& r = *registration_;
    if (!one_direction(what_)) {
        while (registration::any(r.see(), what_))
            if (perform(r.fd()) == attempt::done)
                return true;
        return false;
    }
    const std::size_t direction = direction_of(what_);
    for (;;) {
        const registration::word seen = r.seen(direction); // before the flags, and before the call
        const registration::flag flags = r.flags();
        if ((flags & registration::shut_down) != 0) [[unlikely]] {
            result_ = runtime_gone;
            return true;
        }
        if ((seen & 1) == 0 && (flags & closed_flag(direction)) == 0)
            return false;
        switch (perform(r.fd())) {
        case attempt::done: return true;
        case attempt::drained:
            // A read also ends at a mark in the stream of TCP's urgent data: it may have more. And the end of
            // the stream, which may have come by this event, is there for everybody: one who has looked before
            // it, and enters later, would wait for nothing.
            if ((seen & 1) != 0 && (flags & (registration::urgent | closed_flag(direction))) == 0)
                r.forget(direction, seen);
            return true;
        case attempt::would_block: r.forget(direction, seen); break;
        case attempt::again: break;
        }
    }
}

bool io_operation::publish() noexcept {
    retry_ = true; // to surface is to try again; set while the leaf is still ours
    for (;;) {
        if (registration_->wait(*this))
            return true;
        if (try_complete()) {
            retry_ = false;
            return false;
        }
    }
}

cancel_answer io_operation::cancel() noexcept { return registration_->withdraw(*this); }

std::int64_t io_operation::value(const char* what) const {
    if (result_ < 0)
        throw std::system_error(error(), what);
    return result_;
}

boost::system::error_code io_operation::error() const noexcept {
    if (result_ == end_too_early)
        return make_error_code(io_error::unexpected_end);
    if (result_ == runtime_gone)
        return make_error_code(io_error::runtime_gone);
    return {static_cast<int>(-result_), boost::system::system_category()};
}

} // namespace magpie::io::detail
