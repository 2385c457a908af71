#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/strand.hpp>

#include <utility>

namespace magpie::detail {

/// What other threads have for the strands of one shard (R36). Any thread puts in, the shard's takes all.
class inbox {
public:
    inbox() noexcept = default;
    inbox(const inbox&) = delete;
    inbox& operator=(const inbox&) = delete;

    /// Returns whether it was empty: then the caller has to see to it that the shard comes. Who finds it
    /// otherwise has somebody before him who does, or the shard is coming.
    bool put(parcel p) noexcept {
        parcel seen = newest_.load(std::memory_order_relaxed); // the CAS checks it
        do {
            p.link(seen);
            // (P). seq_cst: the caller reads the idle word next; who lies down writes that and then reads
            // this (R39).
        } while (!newest_.compare_exchange_weak(seen, p, std::memory_order_seq_cst,
                                                std::memory_order_relaxed));
        return !seen;
    }

    bool has_any() const noexcept { // seq_cst: see put()
        return static_cast<bool>(newest_.load(std::memory_order_seq_cst));
    }

    /// Calls `f(parcel)` for each, in the order in which they were put in. Afterwards it is the strand's.
    template <class F>
    void take_all(F&& f) noexcept {
        parcel newest = newest_.exchange(parcel(), std::memory_order_acquire); // (P)
        parcel oldest;
        while (newest) {
            const parcel before = newest.next();
            newest.link(oldest);
            oldest = std::exchange(newest, before);
        }
        while (oldest) {
            const parcel next = oldest.next(); // before f, which gives the node away
            f(std::exchange(oldest, next));
        }
    }

private:
    // A stack. Only the whole of it is taken out, so a head that a CAS finds unchanged was never replaced,
    // or everything it stands for was taken and the same node put in again, with the same meaning.
    //
    // (P) put -> take: the CAS (release) pairs with the exchange (acquire): the shard sees the node's link,
    //     and all that happened before the wake. Later CASes continue the release sequence.
    atomic<parcel> newest_{parcel()};
};

} // namespace magpie::detail
