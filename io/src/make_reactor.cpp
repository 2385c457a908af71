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

} // namespace magpie::io::detail
