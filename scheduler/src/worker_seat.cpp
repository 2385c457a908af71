#include "worker_seat.hpp"

#include "runtime_core.hpp"

#include <utility>

namespace magpie::detail {

worker_seat::worker_seat(worker& w) noexcept : executor(w.core().budget()), worker_(w) {
    set_timers(w.core().timers());
    set_pinned();
}

runtime_core& worker_seat::core() const noexcept { return worker_.core(); }

void worker_seat::schedule(strand& s, placement) noexcept { push(s); }

void worker_seat::adopt(cell& c) noexcept {
    runtime_core& core = worker_.core();
    worker* const w = core.worker_here();
    if (!(w != nullptr ? core.count_in(c, *w) : core.count_in_from_outside(c)))
        return;
    if (w == &worker_) {
        push(c);
    } else {
        arrivals_.push(c);
        core.notify_this(worker_.place());
    }
}

bool worker_seat::enroll(cell& c) noexcept { return worker_.core().enroll(c); }
void worker_seat::retire(cell& c) noexcept { worker_.core().retire(c); }
void worker_seat::run_blocking(blocking_job& job) { worker_.core().run_blocking(job); }
void worker_seat::send(parcel p) noexcept { worker_.core().send_to(inbox_, worker_.place(), p); }

strand* worker_seat::next() noexcept {
    if (inbox_.has_any())
        inbox_.take_all([](parcel p) { strand::receive(p); });
    if (strand* const s = arrivals_.pop())
        push(*s);
    strand* const s = queue_.pop();
    if (s == nullptr)
        return nullptr;
    ready_.store(ready() - 1, std::memory_order_relaxed); // one writer
    if (has_any())
        worker_.look_soon();
    return s;
}

void worker_seat::push(strand& s) noexcept {
    queue_.push(s);
    ready_.store(ready() + 1, std::memory_order_relaxed); // one writer
    worker_.look_soon();
}

} // namespace magpie::detail
