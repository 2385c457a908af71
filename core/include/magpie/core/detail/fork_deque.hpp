#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

namespace magpie::detail {

class fork_record;

/// What a worker's tasks have forked and nobody has begun: the worker puts in and takes back at the
/// bottom, the newest first; thieves take the oldest from the top. It grows, and does not shrink.
///
/// Its newest part may be private: what thieves cannot take costs no read-modify-write to take back. Then a
/// push opens all there is when thieves have nothing left to take.
class fork_deque {
    /// Where the indices of a ring are.
    class places {
    public:
        places(atomic<fork_record*>* first, std::size_t capacity) noexcept
            : first_(first), mask_(capacity - 1) {
            MAGPIE_ASSERT((capacity & mask_) == 0);
        }
        std::size_t capacity() const noexcept { return mask_ + 1; }
        atomic<fork_record*>& at(std::uint64_t i) const noexcept { return first_[i & mask_]; }

    private:
        atomic<fork_record*>* first_;
        std::uint64_t mask_;
    };

public:
    static constexpr std::size_t first_capacity = 256;

    /// @param thieves  false: there is nobody but the worker
    /// @throws std::bad_alloc
    explicit fork_deque(bool thieves = true, std::size_t capacity = first_capacity)
        : thieves_(thieves), newest_(std::make_unique<ring>(capacity)), mine_(newest_->view()),
          keeps_private_(!thieves), ring_(newest_.get()) {}
    fork_deque(const fork_deque&) = delete;
    fork_deque& operator=(const fork_deque&) = delete;

    // --- the worker ---

    /// Makes room for `n` more. False if there is no memory for them.
    bool reserve(std::size_t n) noexcept {
        return bottom_ + n - top_seen_ <= mine_.capacity() || reserve_slowly(n);
    }

    /// Writes the records that push() will put in, the newest first; those before them stay out.
    class writer {
    public:
        void write(fork_record& r) noexcept {
            places_.at(--next_).store(&r, std::memory_order_relaxed); // published by open_
        }

    private:
        friend class fork_deque;
        writer(const places& p, std::uint64_t end) noexcept : places_(p), next_(end) {}

        // By value: what is written might change the deque's, for all the compiler knows.
        const places places_;
        std::uint64_t next_;
    };
    /// Of `n` records. There is room.
    writer write(std::size_t n) const noexcept { return writer(mine_, bottom_ + n); }
    /// Puts in the last `n` that were written, after all were. Returns whether thieves had nothing before, and
    /// have now.
    bool push(const writer& w, std::size_t n) noexcept {
        bottom_ = w.next_ + n;
        if (keeps_private_ && has_open()) [[likely]]
            return false;
        return open();
    }

    /// Lets thieves take all there is. Returns as push.
    bool open() noexcept {
        if (open_.load(std::memory_order_relaxed) == bottom_) // ours
            return false;
        const bool had_some = has_open();
        open_.store(bottom_, std::memory_order_release); // (P)
        return !had_some;
    }

    /// Whether what is put in is kept from thieves while they have something else to take. For who looks into the
    /// deque so often that they need not wait.
    void keep_private(bool on) noexcept { keeps_private_ = on || !thieves_; }

    /// Takes `r` out if it is the newest. Returns whether it did: then nobody else has it.
    bool take_back(const fork_record& r) noexcept {
        const std::uint64_t newest = bottom_ - 1;
        // Our own write. If the deque is empty this is an old one, which take() will not give.
        return mine_.at(newest).load(std::memory_order_relaxed) == &r && take(newest);
    }

    /// The newest, or null.
    fork_record* pop() noexcept {
        const std::uint64_t newest = bottom_ - 1;
        fork_record* const r = mine_.at(newest).load(std::memory_order_relaxed); // our own write
        return r != nullptr && take(newest) ? r : nullptr;
    }

    // --- anybody ---

    /// The oldest; null if there is none, or a race for it was lost.
    fork_record* steal() noexcept {
        // seq_cst, both: see take_open().
        std::uint64_t top = top_.load(std::memory_order_seq_cst);
        if (top >= open_.load(std::memory_order_seq_cst)) // (P)
            return nullptr;
        // Acquire: the ring's records. It may be an old one: what stood at `top` then still does, and
        // if that was taken meanwhile the exchange below fails.
        fork_record* const r =
            ring_.load(std::memory_order_acquire)->view().at(top).load(std::memory_order_relaxed);
        // Release: pairs with reserve_slowly(), for the place has been read. Not seq_cst: see take_open().
        return top_.compare_exchange_strong(top, top + 1, std::memory_order_release,
                                            std::memory_order_relaxed)
                   ? r
                   : nullptr;
    }

    /// How many thieves may take.
    std::size_t size() const noexcept {
        // Relaxed: a hint, also for a worker that lies down (R39). open() is no read-modify-write, so
        // whatever this one's order, what was opened just now may be missed: the parent comes to it.
        const std::uint64_t top = top_.load(std::memory_order_relaxed);
        const std::uint64_t open = open_.load(std::memory_order_relaxed);
        return open > top ? static_cast<std::size_t>(open - top) : 0;
    }

    bool has_thieves() const noexcept { return thieves_; }

    std::uint64_t top_index() const noexcept { return top_.load(std::memory_order_relaxed); }
    std::uint64_t bottom_index() const noexcept { return bottom_; } ///< the worker's

protected:
    ~fork_deque() = default;

    /// There are some that are kept, and thieves have nothing to take.
    virtual void share() noexcept { open(); }

private:
    class ring {
    public:
        explicit ring(std::size_t capacity)
            : memory_(std::make_unique<atomic<fork_record*>[]>(capacity)),
              view_(memory_.get(), capacity) {}
        const places& view() const noexcept { return view_; }
        /// Owns the one that it replaced: a thief may still read there.
        void succeed(std::unique_ptr<ring> older) noexcept { older_ = std::move(older); }

    private:
        std::unique_ptr<atomic<fork_record*>[]> memory_;
        const places view_;
        std::unique_ptr<ring> older_;
    };

    // top_ and bottom_ start at 1, so that bottom_ - 1 is an index; index i lives in place i & mask.
    //
    // I1. What is in the deque has the indices [top_, bottom_); below open_ it is open to thieves, and open_
    //     is not above bottom_. Only the worker writes these two.
    // I2. A place in [top_, bottom_) is not written: the worker writes at bottom_ and above, and makes
    //     room first. A ring that was replaced is not written any more.
    // I3. A record leaves upwards by the CAS of top_, which only grows, in 64 bits: no ABA. It leaves
    //     downwards if it is not open, or if the worker, having lowered open_ to its index, reads a
    //     smaller top_. open_ is put back if the worker does not get what it lowered it for.
    //
    // (P) open -> thief: open_ (release) carries the place, and the record as its parent left it.

    /// Whether thieves have something to take: a hint.
    bool has_open() const noexcept {
        return top_.load(std::memory_order_relaxed) < open_.load(std::memory_order_relaxed);
    }

    bool take(std::uint64_t newest) noexcept {
        if (newest < open_.load(std::memory_order_relaxed)) // ours
            return take_open(newest);
        bottom_ = newest; // it is above top_, for that is not above open_
        if (!has_open()) [[unlikely]]
            share();
        return true;
    }
    bool take_open(std::uint64_t newest) noexcept {
        if (!thieves_) {
            if (newest < top_.load(std::memory_order_relaxed)) // nobody else writes it
                return false;
            open_.store(newest, std::memory_order_relaxed);
            bottom_ = newest;
            return true;
        }
        // The worker lowers open_ and then reads top_; a thief that goes for the same record has read
        // open_ after top_, and then exchanges top_. All but the exchanges of top_ are seq_cst: of a worker
        // that reads the old top_ and a thief that reads the old open_ one is wrong about the last record
        // alone, and for that both exchange top_. Those need no place in the single order: a thief that
        // reads what one of them has stored comes in it behind a worker that has read what it replaced.
        open_.exchange(newest, std::memory_order_seq_cst);
        std::uint64_t top = top_.load(std::memory_order_seq_cst);
        if (top < newest) [[likely]] {
            bottom_ = newest;
            return true;
        }
        // Relaxed: it decides who has it, and what a thief did before goes on behind it.
        const bool won = top == newest &&
                         top_.compare_exchange_strong(top, newest + 1, std::memory_order_relaxed,
                                                      std::memory_order_relaxed);
        // Relaxed: nothing is below. A thief that reads this has read a top_ that was exchanged since.
        open_.store(newest + 1, std::memory_order_relaxed);
        return won;
    }

    bool reserve_slowly(std::size_t n) noexcept {
        const std::uint64_t bottom = bottom_;
        // Acquire: a thief that has moved it has read its place before.
        top_seen_ = top_.load(std::memory_order_acquire);
        std::size_t capacity = mine_.capacity();
        if (bottom + n - top_seen_ <= capacity)
            return true;
        while (bottom + n - top_seen_ > capacity)
            capacity *= 2;
        try {
            auto larger = std::make_unique<ring>(capacity);
            for (std::uint64_t i = top_seen_; i < bottom; ++i) // relaxed: our own writes; see ring_
                larger->view().at(i).store(mine_.at(i).load(std::memory_order_relaxed),
                                           std::memory_order_relaxed);
            larger->succeed(std::move(newest_));
            newest_ = std::move(larger);
        } catch (const std::bad_alloc&) {
            return false;
        }
        mine_ = newest_->view();
        ring_.store(newest_.get(), std::memory_order_release); // pairs with steal(): what was copied
        return true;
    }

    const bool thieves_;
    std::unique_ptr<ring> newest_;
    places mine_;                // the worker's own view of ring_
    std::uint64_t top_seen_ = 1; // the worker's: a top_ that was, so there is at least this much room
    std::uint64_t bottom_ = 1;   // the worker's
    bool keeps_private_;
    atomic<std::uint64_t> open_{1}; // written by the worker
    atomic<ring*> ring_;
    alignas(64) atomic<std::uint64_t> top_{1}; // written by everybody
};

} // namespace magpie::detail
