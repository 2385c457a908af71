#pragma once

#include <magpie/core/strand.hpp>
#include <magpie/sync/object_name.hpp>

#if defined(MAGPIE_LOCK_TRACE)
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <source_location>
#endif

// What a build with MAGPIE_LOCK_TRACE knows of locks: who has them, and who waits. Without it all of this is
// empty, and what is called here is nothing.

namespace magpie::sync {

/// What somebody does with a lock that he has or waits for.
enum class lock_mode : unsigned char {
    exclusive,  ///< nobody else has it: a `mutex`, or the writer of a `shared_mutex`
    shared,     ///< a reader
    upgradable, ///< a reader who may become the writer
};

namespace detail {

#if defined(MAGPIE_LOCK_TRACE)

inline constexpr bool traces_locks = true;

using lock_place = std::source_location;

class lock_entry;
class lock_graph;

/// What a lock knows of itself: its name, and an entry for each who has it or waits for it.
class traced_lock {
public:
    traced_lock() noexcept = default;
    explicit traced_lock(object_name name) noexcept : name_(name.text()) {}
    traced_lock(const traced_lock&) = delete;
    traced_lock& operator=(const traced_lock&) = delete;
    ~traced_lock() { MAGPIE_ASSERT(first_ == nullptr); }

    /// It has one reader at a time: who reads excludes readers.
    void set_one_reader() noexcept { one_reader_ = true; }

private:
    friend class lock_graph;

    // All of it is guarded by the graph's lock.
    const char* name_ = nullptr;
    lock_entry* first_ = nullptr; // those who wait, in their order; those who have it, anywhere
    lock_entry* last_ = nullptr;
    traced_lock* previous_ = nullptr; // of the locks that have entries
    traced_lock* next_ = nullptr;
    bool one_reader_ = false;
};

/// Who took a lock, or waits for it.
struct lock_party {
    bool is_task = false;
    std::uint64_t id = 0; ///< of the task; of the thread, the system's
    char name[48] = {};   ///< cut off where it is too long
};

/// A wait for a lock and then, moved from hand to hand, the hold: a member of what waits, and of guards.
//
// I1. Its address says who holds the lock: the task in whose frames it stands. So a guard that was moved into
//     another task is that task's, and what stands in none belongs to nobody.
// I2. A queue tells it under its own lock who waits, gives up or is served; who lets go tells it before the
//     queue knows. So an entry that is held is a lock that nobody else has, and one that waits is in the queue.
class lock_entry {
public:
    lock_entry() noexcept = default;
    lock_entry(lock_entry&& other) noexcept { take_over(other); }
    /// Of one that is idle.
    lock_entry& operator=(lock_entry&& other) noexcept {
        if (this != &other)
            take_over(other);
        return *this;
    }
    ~lock_entry() { MAGPIE_ASSERT(state_ == state::idle); }

    /// `to` goes to `old`, and `from` to `to`; nothing, if they are one: what guards do that are assigned.
    static void shift(lock_entry& old, lock_entry& to, lock_entry& from) noexcept {
        if (&to != &from) {
            old = static_cast<lock_entry&&>(to);
            to = static_cast<lock_entry&&>(from);
        }
    }

    /// A lock that the calling task or thread has got by trying.
    static lock_entry taken(traced_lock& lock, lock_mode mode, lock_place where) noexcept;

    // --- what an operation says, on its own turn or thread ---

    void is_for(traced_lock& lock, lock_mode mode, lock_place where) noexcept;

    /// It is about to enter a queue. `kept` is what it holds of the lock already.
    void asks(const leaf& who, const lock_entry* kept = nullptr) noexcept;
    /// The same for one that was told to go on, and cannot be refused.
    void asks_again(const leaf& who) noexcept;
    /// It has got the lock without a wait.
    void gets(const leaf& who) noexcept;

    /// Whether it was refused: it would have waited for itself.
    bool is_refused() const noexcept { return refused_; }
    /// @throws std::logic_error if it was refused
    void check() const {
        if (refused_) [[unlikely]]
            throw_refused();
    }

    // --- what the queue says, under its lock ---

    /// Whether it would wait for what it holds itself: it is refused, and does not enter.
    bool refuses() noexcept;
    void waits(bool in_front) noexcept;
    void gives_up() noexcept;
    void gets() noexcept;

    // --- what its holder says, before the queue knows ---

    void lets_go() noexcept;
    void becomes(lock_mode mode) noexcept;

private:
    friend class lock_graph;

    enum class state : unsigned char {
        idle,    // in no list
        waiting, // in the queue
        between, // has the place of the upgradable reader, and is to become a reader
        held,
    };

    void take_over(lock_entry& other) noexcept;
    void note_who(const leaf& who) noexcept;
    [[noreturn]] void throw_refused() const;

    traced_lock* lock_ = nullptr; // null: a permit that is no lock
    lock_place where_;
    lock_mode mode_ = lock_mode::exclusive;
    bool may_refuse_ = false;
    bool refused_ = false;

    // The rest is guarded by the graph's lock as soon as it is in the list.
    bool has_place_ = false; // of the upgradable reader
    state state_ = state::idle;
    lock_entry* previous_ = nullptr;
    lock_entry* next_ = nullptr;
    std::chrono::steady_clock::time_point since_; // when the wait or the hold began
    std::chrono::steady_clock::time_point put_;   // when a hold came to where it is
    lock_party party_;

    // Of one that waits: where, and whose thread it is if it is no task.
    const branch* branch_ = nullptr;
    const void* stack_begin_ = nullptr;
    const void* stack_end_ = nullptr;
    const lock_entry* kept_ = nullptr;
    lock_place refused_by_; // where the hold was taken

    // Of one that a search has met.
    std::uint64_t met_ = 0;
    lock_entry* met_from_ = nullptr;
    lock_entry* met_over_ = nullptr;
    lock_entry* to_visit_ = nullptr;
};

/// One that an operation keeps beside its own.
using kept_lock_entry = lock_entry;

/// Logs what was found meanwhile when this goes: to be made before the queue's lock is taken.
class reports_later {
public:
    reports_later() noexcept = default;
    reports_later(const reports_later&) = delete;
    reports_later& operator=(const reports_later&) = delete;
    ~reports_later();
};

#else

inline constexpr bool traces_locks = false;

struct lock_place {
    static constexpr lock_place current() noexcept { return {}; }
};

class traced_lock {
public:
    constexpr traced_lock() noexcept = default;
    explicit constexpr traced_lock(object_name) noexcept {}
    void set_one_reader() noexcept {}
};

class lock_entry;

class kept_lock_entry { // of a type of its own, so that it can stand where the operation's entry does
public:
    explicit kept_lock_entry(lock_entry&&) noexcept {}
    kept_lock_entry(kept_lock_entry&&) noexcept = default;
    void lets_go() noexcept {}
};

class lock_entry {
public:
    static void shift(lock_entry&, lock_entry&, lock_entry&) noexcept {}
    static lock_entry taken(traced_lock&, lock_mode, lock_place) noexcept { return {}; }
    void is_for(traced_lock&, lock_mode, lock_place) noexcept {}
    void asks(const leaf&, const kept_lock_entry* = nullptr) noexcept {}
    void asks_again(const leaf&) noexcept {}
    void gets(const leaf&) noexcept {}
    static constexpr bool is_refused() noexcept { return false; }
    void check() const noexcept {}
    static constexpr bool refuses() noexcept { return false; }
    void waits(bool) noexcept {}
    void gives_up() noexcept {}
    void gets() noexcept {}
    void lets_go() noexcept {}
    void becomes(lock_mode) noexcept {}
};

struct reports_later {};

#endif

} // namespace detail
} // namespace magpie::sync
