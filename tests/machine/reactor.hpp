#pragma once

#include "machine.hpp"

#include <io/src/reactor.hpp>
#include <magpie/io/detail/io_operation.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

// The product's registrations on a simulated kernel: what a worker sleeps in, connections, a listener.

namespace magpie_machine {

/// A reactor of the product, whose set of descriptors is a list here. Asio does not take part.
class simulated_reactor final : public magpie::io::detail::reactor {
public:
    simulated_reactor() : reactor(true) { name(this, sizeof *this, "reactor: its registrations"); }

    /// That of the calling task's shard.
    static simulated_reactor& here();

    void park(time_point deadline) noexcept override;
    void poll() noexcept override;
    void wake() noexcept override;
    boost::asio::io_context& context() noexcept override;

    /// From a device: there is something to read.
    void tell(magpie::io::detail::registration& r);

private:
    int enter(magpie::io::detail::registration&) noexcept override;
    void leave(magpie::io::detail::registration& r) noexcept override;
    void dispatch() noexcept;

    std::vector<magpie::io::detail::registration*> ready_;
    std::uint64_t tick_ = 0;
    bool woken_ = false;
};

/// A descriptor from which something comes now and then: bytes, or connections.
class source {
public:
    source();
    ~source();
    source(const source&) = delete;
    source& operator=(const source&) = delete;

    /// One arrives: from a device. It takes no time.
    void arrive();

    /// Waits for one of what arrives.
    class [[nodiscard("co_await it")]] read_operation : public magpie::io::detail::io_operation {
    public:
        read_operation(source& s, picoseconds takes) noexcept
            : io_operation(&s.known_, magpie::io::detail::waits_for::read), source_(&s), takes_(takes) {
        }
        read_operation(read_operation&&) noexcept = default;
        static constexpr magpie::cancel_safety safety = magpie::cancel_safety::safe;
        void await_resume() const noexcept {}

    private:
        magpie::io::detail::attempt perform(int) noexcept override;

        source* source_;
        picoseconds takes_;
    };
    /// @param takes  how long the system call is
    read_operation read(picoseconds takes) noexcept { return read_operation(*this, takes); }

private:
    simulated_reactor& reactor_;
    magpie::io::detail::registration& known_;
    std::uint64_t held_ = 0;
};

/// Who connects to a listener: some at a time, each anew when it was served.
class clients {
public:
    /// @param all_served  is told when they are
    clients(source& listener, source& all_served, std::uint64_t connections, std::uint64_t at_a_time);

    /// One was served; another one comes in so long.
    void one_served(picoseconds pause);

private:
    source& listener_;
    source& all_served_;
    std::uint64_t to_come_;
    std::uint64_t to_serve_;
};

} // namespace magpie_machine
