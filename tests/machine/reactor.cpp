#include "reactor.hpp"

#include <magpie/scheduler/detail/driver.hpp>

#include <algorithm>
#include <cstdlib>
#include <source_location>
#include <sys/epoll.h>
#include <utility>

namespace magpie_machine {

using magpie::io::detail::attempt;
using magpie::io::detail::registration;

simulated_reactor& simulated_reactor::here() {
    return static_cast<simulated_reactor&>(
        magpie::detail::io_driver([]() -> magpie::detail::driver* { return new simulated_reactor; },
                                  "a simulated reactor", std::source_location::current()));
}

void simulated_reactor::park(time_point deadline) noexcept {
    begin_turn();
    call_system(cost().system_call);
    let_others_go();
    if (ready_.empty() && !woken_) {
        spend(cost().switch_out);
        sleep_on({this}, to_machine(deadline));
    }
    woken_ = false;
    dispatch();
}

void simulated_reactor::poll() noexcept {
    begin_turn();
    call_system(cost().system_call);
    let_others_go();
    dispatch();
}

void simulated_reactor::wake() noexcept {
    call_system(cost().system_call);
    let_others_go();
    woken_ = true;
    if (wake_sleepers(this, 1) > 0)
        spend(cost().wake);
}

boost::asio::io_context& simulated_reactor::context() noexcept { std::abort(); }

void simulated_reactor::tell(registration& r) {
    if (std::find(ready_.begin(), ready_.end(), &r) == ready_.end())
        ready_.push_back(&r);
    wake_sleepers(this, 1);
}

int simulated_reactor::enter(registration&) noexcept {
    call_system(cost().system_call);
    return 0;
}
void simulated_reactor::leave(registration& r) noexcept {
    call_system(cost().system_call);
    std::erase(ready_, &r);
}

void simulated_reactor::dispatch() noexcept {
    std::vector<registration*> batch;
    std::swap(batch, ready_);
    for (registration* const r : batch)
        r->dispatch(EPOLLIN, ++tick_);
}

source::source() : reactor_(simulated_reactor::here()), known_(reactor_.add(-1, true)) {}
source::~source() { reactor_.remove(known_); }

void source::arrive() {
    ++held_;
    reactor_.tell(known_);
}

clients::clients(source& listener, source& all_served, std::uint64_t connections,
                 std::uint64_t at_a_time)
    : listener_(listener), all_served_(all_served),
      to_come_(connections - std::min(connections, at_a_time)), to_serve_(connections) {
    for (std::uint64_t i = to_come_; i < connections; ++i)
        listener_.arrive();
}

void clients::one_served(picoseconds pause) {
    if (to_come_ > 0) {
        --to_come_;
        at(now() + pause, [this] { listener_.arrive(); });
    }
    if (--to_serve_ == 0)
        all_served_.arrive();
}

attempt source::read_operation::perform(int) noexcept {
    call_system(takes_);
    let_others_go();
    if (source_->held_ == 0)
        return attempt::would_block;
    --source_->held_;
    result_ = 1;
    return source_->held_ == 0 ? attempt::drained : attempt::done;
}

} // namespace magpie_machine
