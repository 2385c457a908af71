#include "reactor.hpp"

#include "epoll_reactor.hpp"
#include "portable_reactor.hpp"

#include <boost/system/system_error.hpp>

#include <system_error>

namespace magpie::io::detail {

namespace {

magpie::detail::atomic<bool> portable{false};

magpie::detail::driver* make_reactor() {
    try {
        if (portable.load(std::memory_order_relaxed)) // set before any runtime is made
            return new portable_reactor;
        return new epoll_reactor;
    } catch (const boost::system::system_error& e) {
        // Asio's, who needs descriptors of its own. It is no std::system_error.
        throw std::system_error(e.code(), "a runtime's reactor");
    }
}

} // namespace

void use_portable_reactor(bool on) noexcept { portable.store(on, std::memory_order_relaxed); }

reactor& reactor::current(const char* what, std::source_location where) {
    return static_cast<reactor&>(magpie::detail::io_driver(&make_reactor, what, where));
}

registration& reactor::add(int fd, bool writable) {
    registration& r = registrations_.take();
    r.open(this, fd, writable, tells_by_itself_ ? 0 : registration::told);
    retain();
    if (const int error = enter(r); error != 0) {
        registrations_.put_back(r); // no event has ever named it
        release();
        throw std::system_error(error, std::system_category(), "registering a descriptor");
    }
    // seq_cst: shut_down() says so and then fails all registrations; this has reset one, and asks.
    if (shut_down_.load(std::memory_order_seq_cst))
        r.fail();
    return r;
}

void reactor::remove(registration& r) noexcept {
    leave(r);
    registrations_.retire(r);
    release();
}

void reactor::shut_down() noexcept {
    if (shut_down_.exchange(true, std::memory_order_seq_cst)) // see add()
        return;
    // Free ones, too: they are opened anew before they are used.
    registrations_.for_each([](registration& r) { r.fail(); });
}

} // namespace magpie::io::detail
