#pragma once

#include "shard_ring.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/scheduler/detail/shard_message.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace magpie::detail {

/// One shard's messages to and from the others.
///
/// What is posted waits in a list for each receiver until the shard sends: then as much of it as there is
/// room for goes into the ring between the two, and the receiver is told once for all of it. What has no
/// room stays in the list: so the rings bound what is under way, and who waits for an answer is who posts
/// less. A ring is made when two shards first have to do with each other.
class shard_mail {
public:
    using ring = shard_ring<shard_message>;

    /// @param me  the shard's number. @param shards  how many there are
    shard_mail(std::size_t me, std::size_t shards)
        : me_(me), from_((shards + 7) / 8), marks_((shards + 63) / 64), to_(shards) {}
    shard_mail(const shard_mail&) = delete;
    shard_mail& operator=(const shard_mail&) = delete;
    ~shard_mail() {
        for (const eight_rings& some : from_)
            for (const atomic<ring*>& r : some.rings)
                delete r.load(std::memory_order_relaxed); // nobody else is there any more
    }

    /// Makes the rings between two shards, if there are none. From any thread. @throws std::bad_alloc
    static void connect(shard_mail& a, shard_mail& b) {
        b.make_ring(a.me_);
        a.make_ring(b.me_);
    }

    // --- the shard's thread ---

    /// Puts a message into the list for shard `to`, with which it is connected. True if it is time to send.
    bool post(std::size_t to, shard_message& m) noexcept {
        outgoing& out = to_[to];
        m.next = nullptr;
        if (out.last == nullptr) {
            out.first = &m;
            out.next_receiver = std::exchange(receivers_, to + 1);
        } else {
            out.last->next = &m;
        }
        out.last = &m;
        return ++unsent_ >= batch;
    }

    bool has_unsent() const noexcept { return receivers_ != 0; }

    /// Sends what is posted: `tell(shard, its mail)` is called for each that has something new, and has to
    /// wake it if it sleeps. `mail_of(shard)` gives the mail of another shard.
    template <class MailOf, class Tell>
    void send(MailOf mail_of, Tell tell) noexcept {
        unsent_ = 0;
        std::size_t rest = 0; // the list of those that have no room for all
        for (std::size_t to = std::exchange(receivers_, 0); to != 0;) {
            outgoing& out = to_[to - 1];
            shard_mail& peer = mail_of(to - 1);
            const std::size_t next = out.next_receiver;
            if (transfer(out, peer)) {
                peer.mark(me_);
                tell(to - 1);
            }
            if (out.first != nullptr)
                out.next_receiver = std::exchange(rest, to);
            to = next;
        }
        receivers_ = rest;
    }

    /// Lets all that has come arrive, but not more from one shard than a ring holds. Returns whether there
    /// was anything.
    template <class MailOf, class Tell>
    bool receive(MailOf mail_of, Tell tell) noexcept {
        bool any = false;
        for (std::size_t word = 0; word < marks_.size(); ++word) {
            atomic<std::uint64_t>& marks = marks_[word].bits;
            if (marks.load(std::memory_order_relaxed) == 0) // the exchange reads what counts
                continue;
            // Acquire: (S) of the ring, and (M). Before it, not even the rings need be there to be prefetched.
            const std::uint64_t come = marks.exchange(0, std::memory_order_acquire);
            each_of(word, come, [this](std::size_t from) { ring_from(from).prefetch(); });
            each_of(word, come,
                    [&](std::size_t from) { receive_from(from, ring_from(from), mail_of, tell); });
            any = true;
        }
        return any;
    }

    // --- any thread ---

    /// Whether something has come. seq_cst: see mark().
    bool has_come() const noexcept {
        for (const mark_word& word : marks_)
            if (word.bits.load(std::memory_order_seq_cst) != 0)
                return true;
        return false;
    }

private:
    static constexpr std::size_t batch = 16; // messages that are sent at once, at the latest
    static_assert(ring::capacity % batch == 0, "a ring is taken in whole batches");

    // What different shards write stands in lines of their own, also where it is small, and what all read is with
    // none of it: else each message would take more lines to and fro than it needs.

    struct alignas(64) eight_rings {
        std::array<atomic<ring*>, 8> rings{}; // each written once
    };
    struct alignas(64) mark_word {
        atomic<std::uint64_t> bits{0};
    };
    struct alignas(64) outgoing {
        shard_message* first = nullptr;
        shard_message* last = nullptr;
        std::size_t next_receiver = 0; // in the list of those with something to send; a number + 1
        ring* there = nullptr;         // known from the first time on
    };

    /// Whether anything went into the ring.
    bool transfer(outgoing& out, shard_mail& peer) noexcept {
        if (out.there == nullptr)
            out.there = &peer.ring_from(me_);
        ring& r = *out.there;
        bool any = false;
        bool asked = false;
        while (out.first != nullptr) {
            shard_message* const next = out.first->next; // before the push, which gives it away
            if (!r.push(*out.first)) {
                if (asked)
                    break;
                r.ask_for_room();
                asked = true;
                continue;
            }
            any = true;
            out.first = next;
        }
        if (out.first == nullptr)
            out.last = nullptr;
        return any;
    }

    void make_ring(std::size_t from) {
        atomic<ring*>& there = place_of(from);
        if (there.load(std::memory_order_relaxed) != nullptr) // ring_from() reads what counts
            return;
        auto made = std::make_unique<ring>();
        ring* none = nullptr;
        // Success, release: pairs with ring_from(). Failure, relaxed: as above.
        if (there.compare_exchange_strong(none, made.get(), std::memory_order_release,
                                          std::memory_order_relaxed))
            static_cast<void>(made.release());
    }
    /// Of a shard with which it is connected.
    ring& ring_from(std::size_t shard) noexcept {
        return *place_of(shard).load(std::memory_order_acquire); // pairs with make_ring()
    }
    atomic<ring*>& place_of(std::size_t shard) noexcept { return from_[shard / 8].rings[shard % 8]; }

    /// Calls `f(shard)` for each that is marked.
    template <class F>
    static void each_of(std::size_t word, std::uint64_t bits, F f) noexcept {
        for (; bits != 0; bits &= bits - 1)
            f(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
    }

    template <class MailOf, class Tell>
    void receive_from(std::size_t from, ring& r, MailOf mail_of, Tell tell) noexcept {
        std::size_t all = 0;
        std::array<shard_message*, batch> some;
        for (std::size_t n; all < ring::capacity && (n = r.pop(some)) > 0; all += n) {
            // Each is in the caches of who has sent it: so their lines come at a time, not one after the other.
            for (std::size_t i = 0; i < n; ++i)
                some[i]->prefetch();
            for (std::size_t i = 0; i < n; ++i)
                some[i]->arrive(); // it may be gone
        }
        if (all == ring::capacity) // others want to run, too
            marks_[from / 64].bits.fetch_or(bit(from),
                                            std::memory_order_relaxed); // for this thread itself
        if (r.room_is_wanted()) {
            mail_of(from).mark(me_); // it comes, and sends the rest
            tell(from);
        }
    }

    /// Says that there is something from shard `from`, or room for its messages.
    ///
    /// (M) seq_cst: the caller reads the idle word next; who lies down writes that and then reads this
    ///     (R39). Release: pairs with receive().
    void mark(std::size_t from) noexcept {
        marks_[from / 64].bits.fetch_or(bit(from), std::memory_order_seq_cst);
    }
    static std::uint64_t bit(std::size_t shard) noexcept { return std::uint64_t{1} << shard % 64; }

    // Only read, once the rings are made.
    alignas(64) const std::size_t me_;
    std::vector<eight_rings> from_;
    std::vector<mark_word> marks_;

    // The shard's own.
    alignas(64) std::size_t unsent_ = 0;
    std::size_t receivers_ = 0; // the first with something to send; a number + 1
    std::vector<outgoing> to_;
};

} // namespace magpie::detail
