#include "signal_table.hpp"

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

namespace magpie::io::detail {

struct signal_block {
    static constexpr std::size_t size = 16;

    signal_slot slots[size];
    magpie::detail::atomic<signal_block*> next{nullptr};

    /// An unused slot of this block. The table is locked.
    signal_slot* find_unused() noexcept {
        for (signal_slot& s : slots)
            if (!s.used_)
                return &s;
        return nullptr;
    }
};

namespace {

constexpr int signals = 64;

// Never destroyed: signals come at the process's end as well.
constinit signal_block first_block;
constinit magpie::detail::mutex lock;

struct handlers {
    bool installed[signals + 1] = {};          // guarded by lock
    struct sigaction before[signals + 1] = {}; // written before ours is installed, and then never
};
constinit handlers table;

extern "C" void magpie_on_signal(int signal, siginfo_t* info, void* context) {
    const int error = errno;
    for (signal_block* b = &first_block; b != nullptr;
         b = b->next.load(std::memory_order_acquire)) // pairs with open()
        for (signal_slot& s : b->slots)
            s.deliver(signal);
    // Whoever was told of the signal before us still is.
    const struct sigaction& before = table.before[signal];
    if ((before.sa_flags & SA_SIGINFO) != 0)
        before.sa_sigaction(signal, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(signal);
    errno = error;
}

const char* why_not(int signal) noexcept {
    switch (signal) {
    case SIGKILL:
    case SIGSTOP: return "the system lets no program handle it";
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
        return "it tells a thread of its own mistake, and when the handler returned, the thread would "
               "make it again";
    default: return nullptr;
    }
}

[[noreturn]] void refuse(int signal, const char* reason) {
    throw std::invalid_argument("signals: " + std::string(::strsignal(signal)) + " (" +
                                std::to_string(signal) + ") cannot be listened to: " + reason);
}

} // namespace

signal_slot& signal_slot::open(std::uint64_t wanted, int eventfd) {
    const magpie::detail::lock_guard guard(lock);
    signal_block* b = &first_block;
    signal_slot* s = b->find_unused();
    while (s == nullptr) {
        signal_block* next = b->next.load(std::memory_order_relaxed); // written under the lock only
        if (next == nullptr) {
            next = new signal_block;                        // for ever, reachable
            b->next.store(next, std::memory_order_release); // pairs with the handler
        }
        b = next;
        s = b->find_unused();
    }
    s->used_ = true;
    s->eventfd_ = eventfd;
    s->pending_.store(0, std::memory_order_relaxed);     // no handler is inside; published by wanted_
    s->wanted_.store(wanted, std::memory_order_seq_cst); // I1; release: eventfd_
    return *s;
}

void signal_slot::close() noexcept {
    wanted_.store(0, std::memory_order_seq_cst); // I1
    // A handler is on its way between two system calls: soon it is through. One on this thread is
    // already, for it ran inside of what this thread does.
    while (inside_.load(std::memory_order_seq_cst) != 0) // I1; acquire: pairs with deliver()
        std::this_thread::yield();
    const magpie::detail::lock_guard guard(lock);
    used_ = false;
}

void signal_slot::deliver(int signal) noexcept {
    // Relaxed: who opens a slot while a signal is delivered may miss it, and the check below counts.
    if ((wanted_.load(std::memory_order_relaxed) & bit(signal)) == 0)
        return;
    inside_.fetch_add(1, std::memory_order_seq_cst);                  // I1
    if ((wanted_.load(std::memory_order_seq_cst) & bit(signal)) != 0) // I1; acquire: eventfd_
        tell(bit(signal));
    inside_.fetch_sub(1, std::memory_order_release); // pairs with close()
}

void signal_slot::tell(std::uint64_t b) noexcept {
    pending_.fetch_or(b, std::memory_order_release); // pairs with take()
    const std::uint64_t one = 1;
    static_cast<void>(!::write(eventfd_, &one, sizeof one)); // I2
}

int signal_slot::take() noexcept {
    // Acquire: pairs with tell(), so what the thread did that raised the signal is seen.
    std::uint64_t seen = pending_.load(std::memory_order_acquire);
    while (seen != 0) {
        const std::uint64_t lowest = seen & (~seen + 1);
        // Acquire, as above; on failure as well.
        if (pending_.compare_exchange_weak(seen, seen & ~lowest, std::memory_order_acquire,
                                           std::memory_order_acquire))
            return std::countr_zero(lowest) + 1;
    }
    return 0;
}

void check_signal(int signal) {
    if (signal < 1 || signal > signals)
        throw std::invalid_argument("signals: " + std::to_string(signal) +
                                    " is no signal: they go from 1 to 64 (SIGRTMAX)");
    if (const char* const reason = why_not(signal))
        refuse(signal, reason);
}

void install_handler(int signal) {
    const magpie::detail::lock_guard guard(lock);
    if (table.installed[signal])
        return;
    struct sigaction ours{};
    ours.sa_sigaction = &magpie_on_signal;
    ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK; // system calls of others go on
    ::sigfillset(&ours.sa_mask);                          // one handler at a time on a thread
    if (::sigaction(signal, nullptr, &table.before[signal]) != 0 ||
        ::sigaction(signal, &ours, nullptr) != 0)
        refuse(signal, "the C library keeps it for itself");
    table.installed[signal] = true;
}

} // namespace magpie::io::detail
