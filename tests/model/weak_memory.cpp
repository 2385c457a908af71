#include "weak_memory.hpp"

#include <algorithm>
#include <iterator>

namespace magpie_model {

namespace {

bool acquires(std::memory_order o) noexcept {
    return o != std::memory_order_relaxed && o != std::memory_order_release;
}
bool releases(std::memory_order o) noexcept {
    return o == std::memory_order_release || o == std::memory_order_acq_rel ||
           o == std::memory_order_seq_cst;
}
bool is_sequential(std::memory_order o) noexcept { return o == std::memory_order_seq_cst; }

std::ptrdiff_t distance(std::size_t n) noexcept { return static_cast<std::ptrdiff_t>(n); }

} // namespace

void history::begin(std::uint64_t initial) {
    stores_.clear();
    loads_.clear();
    has_sequential_ = false;
    stores_.emplace_back().value = initial;
}

bool history::is_known(std::size_t i, const clock& happened) const noexcept {
    const clock& known = stores_[i].known;
    for (std::size_t t = 0; t < most_threads; ++t)
        if (known[t] != 0 && happened.covers(t, known[t]))
            return true;
    return false;
}

void weak_memory::begin() noexcept {
    used_ = 0;
    for (auto& of_thread : order_)
        of_thread.clear();
    stores_.fill(1);
}

std::uint32_t weak_memory::add(std::uint64_t initial) {
    if (used_ == histories_.size())
        histories_.emplace_back();
    histories_[used_].begin(initial);
    return static_cast<std::uint32_t>(++used_);
}

// From the last store down to the first that the thread knows of: it cannot go, or look, behind that.
const std::vector<place>& weak_memory::places(const history& h, access kind, std::uint8_t thread,
                                              const knowledge& now, std::memory_order order,
                                              std::optional<std::uint64_t> expected,
                                              std::memory_order failure) {
    places_.clear();
    for (std::size_t i = h.size(); i > 0; --i) {
        place p{kind, i};
        if (expected && h.value(i - 1) != *expected)
            p.kind = access::load;
        const bool free = p.kind == access::load || i == h.size() || !h.stores_[i].modified;
        if (free && (i == h.size() || !is_sequential(p.kind == kind ? order : failure) ||
                     (find_order(h, p, thread, now), !closes_circle())))
            places_.push_back(p);
        if (h.is_known(i - 1, now.happened))
            break;
    }
    return places_;
}

void weak_memory::put(history& h, place at, std::uint8_t thread, knowledge& now,
                      std::memory_order order, std::uint64_t desired, std::size_t step) {
    sequential self;
    if (is_sequential(order)) {
        find_order(h, at, thread, now);
        self = append(thread);
        h.has_sequential_ = true;
    }
    knowledge released;
    if (at.kind != access::store) {
        history::stored& read = h.stores_[at.index - 1];
        if (read.known[thread] == 0)
            read.known.set(thread, now.happened[thread]);
        if (acquires(order))
            now.join(read.released);
        if (at.kind == access::modify)
            released = read.released; // the release sequence goes on
        else if (self.number != 0) {
            h.loads_.push_back({self, read.loads, is_in_buffer(h, at, thread)});
            read.loads = static_cast<std::uint32_t>(h.loads_.size());
        }
    }
    if (at.kind != access::load) {
        if (releases(order))
            released.join(now);
        history::stored& s = *h.stores_.emplace(h.stores_.begin() + distance(at.index));
        s.value = desired;
        s.step = step;
        s.known.set(thread, now.happened[thread]);
        s.released = released;
        s.order = self;
        s.modified = at.kind == access::modify;
        s.thread = thread;
        if (self.number != 0)
            ++stores_[thread];
        else if (!s.modified)
            s.buffered = stores_[thread];
    }
    if (self.number != 0) // itself it precedes only what is sequenced after it
        now.ordered.set(thread, self.number);
}

void weak_memory::show_latest(history& h, std::uint8_t thread, const knowledge& now) noexcept {
    history::stored& s = h.stores_.back();
    if (s.known[thread] == 0)
        s.known.set(thread, now.happened[thread]);
}

// --- the single order of the seq_cst operations ---

// Whether this is a load of what its thread has stored last, by no seq_cst operation, and none that stores since.
bool weak_memory::is_in_buffer(const history& h, place at, std::uint8_t thread) const noexcept {
    const history::stored& read = h.stores_[at.index - 1];
    return at.kind == access::load && read.thread == thread && read.buffered == stores_[thread];
}

// What precedes an operation at a place, and what it precedes there. The nearest store in each direction
// will do, for that one has the same to say of those further on; loads stand between.
void weak_memory::find_order(const history& h, place at, std::uint8_t thread, const knowledge& now) {
    before_ = {};
    behind_.clear();
    for (std::uint8_t t = 0; t < most_threads; ++t)
        add_before({t, now.ordered[t]});
    if (!h.has_sequential_)
        return;
    for (std::size_t i = is_in_buffer(h, at, thread) ? 0 : at.index; i > 0; --i) {
        const history::stored& s = h.stores_[i - 1];
        if (!(at.kind == access::load && i == at.index)) // two loads of one store stand side by side
            add_loads(h, i - 1, true);
        if (s.order.number != 0) {
            add_before(s.order);
            break;
        }
    }
    for (std::size_t i = at.index; i < h.size(); ++i) {
        const history::stored& s = h.stores_[i];
        if (s.order.number != 0) {
            behind_.push_back(s.order);
            break;
        }
        add_loads(h, i, false);
    }
}

void weak_memory::add_before(sequential s) noexcept {
    if (s.number == 0)
        return;
    before_.join(order_of(s));
    if (!before_.covers(s.thread, s.number))
        before_.set(s.thread, s.number);
}

void weak_memory::add_loads(const history& h, std::size_t store, bool before) {
    for (std::uint32_t l = h.stores_[store].loads; l != 0; l = h.loads_[l - 1].next) {
        if (before)
            add_before(h.loads_[l - 1].order);
        else if (!h.loads_[l - 1].from_buffer)
            behind_.push_back(h.loads_[l - 1].order);
    }
}

bool weak_memory::closes_circle() const noexcept {
    return std::any_of(behind_.begin(), behind_.end(),
                       [this](sequential s) { return before_.covers(s.thread, s.number); });
}

// Enters what find_order() has found.
sequential weak_memory::append(std::uint8_t thread) {
    order_[thread].push_back(before_);
    const sequential self{thread, static_cast<clock::time>(order_[thread].size())};
    if (!behind_.empty()) {
        clock with_self = before_;
        with_self.set(thread, self.number);
        for (std::uint8_t t = 0; t < most_threads; ++t) {
            for (std::size_t n = 1; n <= order_[t].size(); ++n) {
                clock& before = order_[t][n - 1];
                const bool follows = std::any_of(behind_.begin(), behind_.end(), [&](sequential s) {
                    return (s.thread == t && s.number == n) || before.covers(s.thread, s.number);
                });
                if (follows)
                    before.join(with_self);
            }
        }
    }
    return self;
}

} // namespace magpie_model
