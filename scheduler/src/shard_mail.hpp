#pragma once

#include "shard_ring.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/scheduler/detail/shard_message.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace magpie::detail {

/// One shard's messages to and from the others.
///
/// What is posted waits in a list for each receiver until the shard sends: then as much of it as there is
/// room for goes into the ring between the two, and the receiver is told once for all of it. What has no
/// room stays in the list: so the rings bound what is under way, and who waits for an answer is who posts
/// less. A ring is made when two shards first have to do with each other.
///
/// A call that is enclosed is answered in its place. Where there are few shards each looks into all of its rings;
/// where there are more, it looks at marks, of which a word has 64: one more cache line that goes to and fro.
///
/// The shard's way to the others is a `Route`: `mail_of(shard)` gives another one's mail; `tell(shard)` is called
/// for each that has something new, and has to wake it if it sleeps; `answered(n)` counts answers.
///
/// Why none is lost that comes while its shard lies down: what is new is stored first (release), then `tell` asks who
/// sleeps by a read-modify-write of the idle word; who lies down takes itself out of that by one, and then calls
/// has_come(). Either the second one reads what the first one left, and all that was stored is seen; or
/// the first one comes later, and sees a sleeper.
class shard_mail {
public:
    using ring = shard_ring<shard_message, enclosure>;

    static constexpr std::size_t few = 8; // shards

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

    /// What is enclosed is not called without a look at the message while something is revoked.
    void begin_revoking() noexcept { set_revoking(revoking_.load(std::memory_order_relaxed) + 1); }
    void end_revoking() noexcept { set_revoking(revoking_.load(std::memory_order_relaxed) - 1); }

    /// Sends what is posted.
    template <class Route>
    void send(const Route& route) noexcept {
        unsent_ = 0;
        std::size_t rest = 0; // the list of those that have no room for all
        for (std::size_t to = std::exchange(receivers_, 0); to != 0;) {
            outgoing& out = to_[to - 1];
            const std::size_t next = out.next_receiver;
            if (transfer(out, ring_to(to - 1, route)))
                announce(to - 1, route);
            if (out.first != nullptr)
                out.next_receiver = std::exchange(rest, to);
            to = next;
        }
        receivers_ = rest;
    }

    /// Lets all that has come arrive, but not more from one shard than a ring holds. Returns whether there
    /// was anything.
    template <class Route>
    bool receive(const Route& route) noexcept {
        bool any = false;
        for (std::size_t from = 0; looks_into_all() && from < to_.size(); ++from)
            if (has_come_from(from)) {
                receive_from(from, route);
                any = true;
            }
        for (std::size_t word = 0; word < marks_.size(); ++word) {
            atomic<std::uint64_t>& marks = marks_[word].bits;
            if (marks.load(std::memory_order_relaxed) == 0) // the exchange reads what counts
                continue;
            // Acquire: (S) of the ring, and (M).
            for (std::uint64_t come = marks.exchange(0, std::memory_order_acquire); come != 0;
                 come &= come - 1) {
                const std::size_t from = word * 64 + static_cast<std::size_t>(std::countr_zero(come));
                receive_from(from, route);
            }
            any = true;
        }
        return any;
    }

    // --- any thread ---

    /// Whether something has come. The shard's thread, or another one while that sleeps. Relaxed: what was stored
    /// before its shard lay down is seen; what comes later is told of.
    bool has_come() const noexcept {
        for (std::size_t from = 0; looks_into_all() && from < to_.size(); ++from)
            if (has_come_from(from))
                return true;
        for (const mark_word& word : marks_)
            if (word.bits.load(std::memory_order_relaxed) != 0)
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
    static_assert(few <= 8, "who looks into all finds them by one line");
    struct alignas(64) mark_word {
        atomic<std::uint64_t> bits{0};
    };
    struct alignas(64) outgoing {
        shard_message* first = nullptr;
        shard_message* last = nullptr;
        std::size_t next_receiver = 0; // in the list of those with something to send; a number + 1
        ring* there = nullptr;         // known from the first time on

        shard_message& take() noexcept { // before it is pushed, which gives it away
            shard_message& m = *first;
            first = m.next;
            if (first == nullptr)
                last = nullptr;
            return m;
        }
    };

    /// Messages, or answers.
    bool has_come_from(std::size_t shard) const noexcept {
        const ring* const in = place_of(shard).load(
            std::memory_order_acquire); // pairs with make_ring()
        const ring* const out = to_[shard].there;
        return (in != nullptr && in->has_any()) || (out != nullptr && out->has_answer());
    }

    /// Whether anything went into the ring.
    static bool transfer(outgoing& out, ring& r) noexcept {
        bool any = false;
        bool asked = false;
        while (out.first != nullptr) {
            enclosure* const e = r.next_enclosed();
            if (e != nullptr) {
                shard_message& m = out.take();
                r.push(m, m.enclose(*e) ? posted::call : posted::letter);
                any = true;
            } else if (!std::exchange(asked, true)) {
                r.ask_for_room();
            } else {
                break;
            }
        }
        return any;
    }

    template <class Route>
    void receive_from(std::size_t from, const Route& route) noexcept {
        shard_mail& peer = route.mail_of(from);
        ring& r = ring_from(from);
        std::size_t all = 0;
        std::size_t answers = 0;
        std::array<ring::found, batch> some;
        for (std::size_t n; all < ring::capacity && (n = r.look(some)) > 0; all += n) {
            // Each is in the caches of who has sent it: so their lines come at a time, not one after the other.
            for (std::size_t i = 0; i < n; ++i)
                if (some[i].how() == posted::letter)
                    some[i].what().prefetch();
            for (std::size_t i = 0; i < n; ++i) {
                if (some[i].how() == posted::letter) {
                    some[i].what().arrive(); // it may be gone
                } else {
                    some[i].answer(call(some[i], peer) ? posted::answer : posted::note);
                    ++answers;
                }
            }
            r.drop(n);
        }
        if (answers > 0) {
            route.answered(answers);
            announce(from, route);
        }
        if (ring* const out = to_[from].there; out != nullptr)
            out->take_answers([](const ring::found& x) {
                x.what().answered(x.how() == posted::answer ? &x.enclosed() : nullptr);
            });
        if (all >= ring::capacity) // others want to run, too
            marks_[from / 64].bits.fetch_or(bit(from),
                                            std::memory_order_relaxed); // for this thread itself
        if (r.room_is_wanted()) {
            peer.mark(me_); // it comes, and sends the rest
            route.tell(from);
        }
    }

    /// Calls what is enclosed. Whether the answer is.
    static bool call(const ring::found& x, const shard_mail& from) noexcept {
        auto& c = *std::launder(reinterpret_cast<enclosed_call*>(x.enclosed().bytes));
        const enclosed_call::caller call = c.call;
        // Relaxed: who has revoked something before what this thread knows of is seen; else it is too late.
        return call(x.what(), x.enclosed(), from.revoking_.load(std::memory_order_relaxed) > 0);
    }

    /// Has shard `to` look at what was sent.
    template <class Route>
    void announce(std::size_t to, const Route& route) noexcept {
        if (!looks_into_all())
            route.mail_of(to).mark(me_);
        route.tell(to);
    }

    /// The ring to a shard with which it is connected.
    template <class Route>
    ring& ring_to(std::size_t shard, const Route& route) noexcept {
        outgoing& out = to_[shard];
        if (out.there == nullptr)
            out.there = &route.mail_of(shard).ring_from(me_);
        return *out.there;
    }

    void make_ring(std::size_t from) {
        atomic<ring*>& there = place_of(from);
        if (there.load(std::memory_order_relaxed) != nullptr) // ring_from() reads what counts
            return;
        auto made = std::make_unique<ring>();
        ring* none = nullptr;
        // Success, release: pairs with ring_from() and receive(). Failure, relaxed: as above.
        if (there.compare_exchange_strong(none, made.get(), std::memory_order_release,
                                          std::memory_order_relaxed))
            static_cast<void>(made.release());
    }
    /// Of a shard with which it is connected.
    ring& ring_from(std::size_t shard) noexcept {
        return *place_of(shard).load(std::memory_order_acquire); // pairs with make_ring()
    }
    atomic<ring*>& place_of(std::size_t shard) noexcept { return from_[shard / 8].rings[shard % 8]; }
    const atomic<ring*>& place_of(std::size_t shard) const noexcept {
        return from_[shard / 8].rings[shard % 8];
    }

    bool looks_into_all() const noexcept { return to_.size() <= few; }

    void set_revoking(std::uint32_t n) noexcept {
        revoking_.store(n, std::memory_order_relaxed); // see call()
    }

    /// Says that there is something from shard `from`, or room for its messages.
    void mark(std::size_t from) noexcept {
        marks_[from / 64].bits.fetch_or(bit(from),
                                        std::memory_order_release); // (M), pairs with receive()
    }
    static std::uint64_t bit(std::size_t shard) noexcept { return std::uint64_t{1} << shard % 64; }

    // Only read, once the rings are made and while nothing is revoked.
    alignas(64) const std::size_t me_;
    std::vector<eight_rings> from_;
    std::vector<mark_word> marks_;
    atomic<std::uint32_t> revoking_{0}; // how many of its messages under way are revoked

    // The shard's own.
    alignas(64) std::size_t unsent_ = 0;
    std::size_t receivers_ = 0; // the first with something to send; a number + 1
    std::vector<outgoing> to_;
};

} // namespace magpie::detail
