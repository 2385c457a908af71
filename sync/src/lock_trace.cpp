#include <magpie/sync/lock_trace.hpp>

#include <magpie/core/error.hpp>

#include <ostream>

#if defined(MAGPIE_LOCK_TRACE)

#include "lock_graph.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/immortal.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/log.hpp>

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>

#endif

namespace magpie::sync {

std::ostream& operator<<(std::ostream& out, const lock_use& l) {
    const auto place = [](std::source_location w) {
        return std::string(w.file_name()) + ":" + std::to_string(w.line());
    };
    out << l.lock << ':';
    const char* between = " ";
    for (const lock_user& u : l.owners) {
        out << between << "held by " << u.who << " since " << place(u.where);
        between = ", ";
    }
    between = l.owners.empty() ? " " : "; ";
    for (const lock_user& u : l.waiters) {
        out << between << u.who << " waits at " << place(u.where);
        between = ", ";
    }
    return out;
}

#if !defined(MAGPIE_LOCK_TRACE)

namespace {
[[noreturn]] void throw_untraced() {
    magpie::detail::throw_usage_error("who has a lock is known to a build with -DMAGPIE_LOCK_TRACE=ON "
                                      "alone: configure magpie with it, and build anew what uses it");
}
} // namespace

std::vector<lock_use> lock_report() { throw_untraced(); }

namespace detail {
lock_use use_of(const traced_lock&) { throw_untraced(); }
} // namespace detail

#else

namespace detail {
namespace {

using graph_guard = magpie::detail::lock_guard<magpie::detail::mutex>;
using magpie::detail::leaf_access;
using magpie::detail::this_thread;

const void* find_end_of_stack() noexcept {
    pthread_attr_t attributes;
    if (::pthread_getattr_np(::pthread_self(), &attributes) != 0)
        return nullptr;
    void* begin = nullptr;
    std::size_t size = 0;
    ::pthread_attr_getstack(&attributes, &begin, &size);
    ::pthread_attr_destroy(&attributes);
    return static_cast<const char*>(begin) + size;
}

const void* end_of_stack() noexcept {
    static thread_local const void* const end = find_end_of_stack();
    return end;
}

lock_party party_of(const magpie::detail::cell& c) noexcept {
    lock_party p;
    p.is_task = true;
    p.id = c.id;
    c.name().copy(p.name, sizeof p.name - 1);
    return p;
}

lock_party party_of_thread() noexcept {
    lock_party p;
    p.id = static_cast<std::uint64_t>(::gettid());
    if (::pthread_getname_np(::pthread_self(), p.name, sizeof p.name) != 0)
        p.name[0] = '\0';
    return p;
}

// The only strands that take turns are cells.
lock_party party_here() noexcept {
    const strand* const turn = this_thread().turn;
    return turn != nullptr ? party_of(static_cast<const magpie::detail::cell&>(*turn))
                           : party_of_thread();
}

// Never destroyed: a static object may lock while the program ends.
lock_graph& graph() noexcept { return magpie::detail::immortal<lock_graph>(); }

} // namespace

reports_later::~reports_later() {
    std::vector<lock_graph::message> messages;
    bool has_lost;
    {
        const graph_guard guard(graph().lock);
        messages = graph().take_messages();
        has_lost = graph().take_lost();
    }
    if (has_lost)
        log(log_level::error, "deadlock between locks, and no memory to say which");
    for (const auto& [level, text] : messages)
        log(level, text);
}

// --- an entry ---

lock_entry lock_entry::taken(traced_lock& lock, lock_mode mode, lock_place where) noexcept {
    lock_entry e;
    e.is_for(lock, mode, where);
    e.party_ = party_here();
    e.has_place_ = mode == lock_mode::upgradable;
    e.since_ = e.put_ = std::chrono::steady_clock::now();
    const graph_guard guard(graph().lock);
    e.state_ = state::held;
    graph().link(e, false);
    return e;
}

void lock_entry::is_for(traced_lock& lock, lock_mode mode, lock_place where) noexcept {
    MAGPIE_ASSERT(state_ == state::idle);
    lock_ = &lock;
    mode_ = mode;
    where_ = where;
    refused_ = has_place_ = false;
}

void lock_entry::note_who(const leaf& who) noexcept {
    const strand& s = leaf_access::strand_of(who);
    const bool is_task = this_thread().turn == &s;
    party_ = is_task ? party_of(static_cast<const magpie::detail::cell&>(s)) : party_of_thread();
    branch_ = &leaf_access::branch_of(who);
    stack_end_ = is_task ? nullptr : end_of_stack();
    stack_begin_ = __builtin_frame_address(0);
}

void lock_entry::asks(const leaf& who, const lock_entry* kept) noexcept {
    if (lock_ == nullptr)
        return;
    const graph_guard guard(graph().lock);
    note_who(who);
    kept_ = kept;
    may_refuse_ = true;
}

void lock_entry::asks_again(const leaf& who) noexcept {
    asks(who);
    may_refuse_ = false;
}

void lock_entry::gets(const leaf& who) noexcept {
    if (lock_ == nullptr)
        return;
    {
        const graph_guard guard(graph().lock);
        note_who(who);
    }
    const reports_later at_the_end;
    gets();
}

bool lock_entry::refuses() noexcept {
    if (lock_ == nullptr || !may_refuse_)
        return false;
    const graph_guard guard(graph().lock);
    const lock_entry* const own = lock_graph::own_hold(*this);
    if (own != nullptr) {
        refused_ = true;
        refused_by_ = own->where_;
    }
    return refused_;
}

void lock_entry::waits(bool in_front) noexcept {
    if (lock_ == nullptr)
        return;
    const graph_guard guard(graph().lock);
    if (state_ != state::idle)
        graph().unlink(*this);
    state_ = state::waiting;
    since_ = std::chrono::steady_clock::now();
    graph().link(*this, in_front);
    graph().look_from(*this);
}

void lock_entry::gets() noexcept {
    if (lock_ == nullptr)
        return;
    const graph_guard guard(graph().lock);
    if (state_ == state::idle)
        graph().link(*this, false);
    since_ = put_ = std::chrono::steady_clock::now();
    if (mode_ == lock_mode::upgradable && !has_place_) {
        has_place_ = true;
        state_ = state::between;
        return;
    }
    state_ = state::held;
    graph().look_at(*this);
}

void lock_entry::lets_go() noexcept {
    if (lock_ == nullptr)
        return;
    const graph_guard guard(graph().lock);
    if (state_ != state::idle)
        graph().unlink(*this);
    state_ = state::idle;
    has_place_ = false;
}

void lock_entry::gives_up() noexcept {
    if (lock_ == nullptr)
        return;
    const graph_guard guard(graph().lock);
    if (has_place_) { // which it keeps until it is destroyed
        state_ = state::between;
        return;
    }
    graph().unlink(*this);
    state_ = state::idle;
}

void lock_entry::becomes(lock_mode mode) noexcept {
    if (lock_ == nullptr)
        return;
    const graph_guard guard(graph().lock);
    mode_ = mode;
    has_place_ = false;
}

// The other one's links are its neighbours' links, under the lock; and what it says of itself is final.
void lock_entry::take_over(lock_entry& other) noexcept {
    MAGPIE_ASSERT(state_ == state::idle);
    if (other.lock_ == nullptr) {
        lock_ = nullptr;
        return;
    }
    const reports_later at_the_end;
    const graph_guard guard(graph().lock);
    lock_ = other.lock_;
    where_ = other.where_;
    mode_ = other.mode_;
    may_refuse_ = other.may_refuse_;
    refused_ = other.refused_;
    refused_by_ = other.refused_by_;
    has_place_ = other.has_place_;
    since_ = other.since_;
    put_ = std::chrono::steady_clock::now();
    party_ = other.party_;
    branch_ = other.branch_;
    stack_begin_ = other.stack_begin_;
    stack_end_ = other.stack_end_;
    kept_ = other.kept_;
    state_ = std::exchange(other.state_, state::idle);
    if (state_ == state::idle)
        return;
    lock_graph::replace(other, *this);
    if (state_ == state::held)
        graph().look_at(*this);
}

void lock_entry::throw_refused() const {
    throw std::logic_error(text_of(where_) + ": this locks " + lock_graph::name_of(*lock_) +
                           ", and holds it since " + text_of(refused_by_) +
                           ": it would wait for itself. Let go of that guard first (guard.unlock()), "
                           "or go on with it: locks "
                           "are not recursive");
}

lock_use use_of(const traced_lock& l) {
    const graph_guard guard(graph().lock);
    return lock_graph::use_of(l);
}

} // namespace detail

std::vector<lock_use> lock_report() {
    const detail::graph_guard guard(detail::graph().lock);
    return detail::graph().uses();
}

#endif

} // namespace magpie::sync
