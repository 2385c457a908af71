#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/scheduler/detail/task_list.hpp>

#include <cstddef>
#include <cstdint>

namespace magpie::detail {

/// What a task carries that belongs to a set.
struct set_member : task_list_node {
    set_member* next_ended = nullptr; // of those that have ended
};

/// Members that have ended, in order of their ends.
struct ended_list {
    set_member* first = nullptr;
    set_member* last = nullptr;
    std::size_t count = 0;
};

/// The one word between a set and the tasks in it. It lives as long as a task may come to it, which
/// may be longer than the set does.
class set_word {
public:
    static void* operator new(std::size_t size) { return allocate_frame(size); }
    static void operator delete(void* p, std::size_t size) noexcept { deallocate_frame(p, size); }

    set_word() noexcept = default;
    set_word(const set_word&) = delete;
    set_word& operator=(const set_word&) = delete;

    /// Hands over a member that has ended, and wakes who waits. Its last touch of it and of `*this`.
    /// False: the set is gone, and has left the member to itself.
    bool arrive(set_member& m) noexcept;

    // --- the set's side: one thread at a time ---

    /// Takes all that have ended since.
    ended_list take() noexcept;

    /// Puts a leaf there; nobody else's stands there. False: somebody has ended.
    bool wait(leaf& l) noexcept;
    cancel_answer withdraw(leaf& l) noexcept;
    /// Whether the leaf stands here. If it does not any more, a member has woken it.
    bool holds(leaf& l) const noexcept {
        // Relaxed: it was put there by the set's side, which asks. What a member has left is taken
        // by take().
        return word_.load(std::memory_order_relaxed) == of(l);
    }

    /// The set goes, `outstanding` members (above zero) are left to themselves. Gives those that have
    /// ended by now; wakes who waits. The last one to come deletes `*this`: nothing may touch it.
    ended_list leave(std::size_t outstanding) noexcept;

private:
    ~set_word() = default;
    friend class task_set;

    // word_ is one of
    //   0              nothing ended that was not taken, nobody waits
    //   leaf | waits   the leaf that waits for an end
    //   member         the head of a stack of members that have ended
    //   n << 2 | gone  the set is gone; n members have still to come. Final.
    //
    // I1. Members are removed by taking the whole stack: no ABA.
    // I2. The set's side alone puts a leaf there, and takes it back; whoever replaces it wakes it.
    // I3. A member that finds `gone` counts itself out, and the last one deletes the word. Before
    //     that the set's side does: it knows how many have not come.
    //
    // (E) member -> set: arrive() (release) pairs with take() and leave() (acquire): the set sees the
    //     results. Each arrival is a read-modify-write, so one acquire covers the whole stack.
    // (L) leaf -> member: wait() (release) pairs with arrive() (acquire): it wakes what was bound.
    // (G) leave() and each arrival after it (release) pair with the last one's acquire, which deletes.
    static constexpr std::uintptr_t waits = 1;
    static constexpr std::uintptr_t gone = 2;
    static constexpr std::uintptr_t one = 4;

    static std::uintptr_t of(leaf& l) noexcept { return reinterpret_cast<std::uintptr_t>(&l) | waits; }
    static leaf& leaf_of(std::uintptr_t word) noexcept {
        return *reinterpret_cast<leaf*>(word & ~waits);
    }
    static ended_list in_order(std::uintptr_t word) noexcept;
    bool count_out(std::size_t n) noexcept;

    atomic<std::uintptr_t> word_{0};
};

} // namespace magpie::detail
