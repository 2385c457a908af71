#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/strand.hpp>

#include <cstddef>
#include <cstdint>

namespace magpie::detail {

/// What a task carries that belongs to a set.
struct set_member {
    cell* task = nullptr;
    set_member* previous = nullptr; // the set's list of all; the set's thread alone
    set_member* next = nullptr;
    set_member* next_ended = nullptr; // of those that have ended
};

/// Members that have ended, in order of their ends.
struct ended_list {
    set_member* first = nullptr;
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

    enum class wait_state : unsigned char { waiting, ended, occupied };
    wait_state wait(leaf& l) noexcept;
    cancel_answer withdraw(leaf& l) noexcept;
    bool is_waited_for() const noexcept {
        // Relaxed: a leaf is put there by the set's side, which asks.
        return (word_.load(std::memory_order_relaxed) & waits) != 0;
    }

    /// The set goes, `outstanding` members (above zero) are left to themselves. Gives those that have
    /// ended by now; wakes who waits. The last one to come deletes `*this`: nothing may touch it.
    ended_list leave(std::size_t outstanding) noexcept;

private:
    ~set_word() = default;
    friend class join_set_base;

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

/// A set of tasks, whatever they give. One thread at a time.
class join_set_base {
public:
    join_set_base(const join_set_base&) = delete;
    join_set_base& operator=(const join_set_base&) = delete;

    std::size_t size() const noexcept { return size_; }

    set_member* pop() noexcept;            ///< the next that has ended; null if none
    void put_back(set_member& m) noexcept; ///< what pop() gave, to be the next again
    set_word::wait_state wait(leaf& l) noexcept { return word_->wait(l); }
    cancel_answer withdraw(leaf& l) noexcept {
        // A detach_all() has replaced the word, and has woken who waited.
        return word_ != nullptr ? word_->withdraw(l) : cancel_answer::coming;
    }

protected:
    join_set_base() noexcept = default;
    join_set_base(join_set_base&& other) noexcept { swap(other); }
    ~join_set_base();

    void swap(join_set_base& other) noexcept;
    set_word& word(); ///< makes one if there is none. @throws std::bad_alloc
    void add(set_member& m) noexcept;
    void abort_all() const noexcept;
    void detach_all() noexcept;

private:
    void link(set_member& m) noexcept;
    void unlink(set_member& m) noexcept;
    void take_ended() noexcept;

    set_word* word_ = nullptr;
    set_member* members_ = nullptr; // all, newest first
    set_member* ended_ = nullptr;   // of them those that were taken off the word, oldest first
    std::size_t size_ = 0;
    std::size_t outstanding_ = 0; // of them those that were not
};

/// The cell of a task in a set.
template <class T>
class set_cell final : public result_cell<T>, public set_member {
public:
    template <class... Name>
    set_cell(executor& e, std::coroutine_handle<promise<T>> root, set_word& word,
             std::source_location where, Name&&... name)
        : result_cell<T>(e, where, std::forward<Name>(name)...), word_(&word) {
        task = this;
        root.promise().result = &this->result_;
        this->set_root(root.promise());
        this->belong_to_set();
    }

private:
    void tell_set() noexcept override {
        if (!word_->arrive(*this))
            this->leave_set();
    }

    set_word* word_;
};

} // namespace magpie::detail
