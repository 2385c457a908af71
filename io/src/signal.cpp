#include <magpie/io/signal.hpp>

#include "signal_table.hpp"
#include "system.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <sys/eventfd.h>
#include <unistd.h>

namespace magpie::io {

namespace detail {

signal_listener::signal_listener(std::span<const int> which, const char* what,
                                 std::source_location where) {
    reactor& r = reactor::current(what, where);
    if (which.empty())
        throw std::invalid_argument(std::string(what) + ": name at least one signal");
    for (const int signal : which)
        check_signal(signal); // all, before any handler is installed
    std::uint64_t wanted = 0;
    for (const int signal : which) {
        install_handler(signal);
        wanted |= signal_slot::bit(signal);
    }
    plain_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (event.get() == -1)
        throw_errno(errno, what);
    const int fd = event.get();
    descriptor_ = register_fd(r, std::move(event), false);
    slot_ = &signal_slot::open(wanted, fd); // last: it has no other owner if something throws
}

signal_listener::~signal_listener() {
    if (slot_ != nullptr)
        slot_->close(); // before the descriptor: no handler may write to what it is used for next
}

} // namespace detail

next_signal_operation::~next_signal_operation() {
    if (taken_ != 0)
        slot_->give_back(taken_); // nobody was told
}

detail::attempt next_signal_operation::perform(int fd) noexcept {
    for (;;) {
        taken_ = slot_->take();
        if (taken_ != 0) {
            result_ = taken_;
            return detail::attempt::done; // others may have come: the next one looks
        }
        // A signal tells of itself before it writes. So what comes after this look is either found by
        // the next one, or has still to write.
        std::uint64_t writes = 0;
        if (::read(fd, &writes, sizeof writes) < 0)
            return detail::attempt::would_block;
    }
}

int next_signal_operation::await_resume() {
    static_cast<void>(value("waiting for a signal"));
    return std::exchange(taken_, 0);
}

result<int> next_signal_operation::take_result() noexcept {
    if (result_ < 0)
        return {boost::system::in_place_error, error()};
    return {boost::system::in_place_value, std::exchange(taken_, 0)};
}

std::optional<int> signals::try_next() {
    static_cast<void>(listener_.events()); // it is not empty
    const int signal = listener_.slot().take();
    return signal != 0 ? std::optional<int>(signal) : std::nullopt;
}

namespace {

constexpr std::array interrupt{SIGINT};

} // namespace

ctrl_c_operation::ctrl_c_operation(std::source_location where)
    : signal_listener(interrupt, "ctrl_c", where), next_signal_operation(events(), slot()) {}

result<void> ctrl_c_operation::take_result() noexcept {
    const result<int> signal = next_signal_operation::take_result();
    if (signal.has_error())
        return {boost::system::in_place_error, signal.error()};
    return {boost::system::in_place_value};
}

ctrl_c_operation ctrl_c(std::source_location where) { return ctrl_c_operation(where); }

} // namespace magpie::io
