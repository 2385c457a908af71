#include "reactor.hpp"

#include <system_error>

namespace magpie::io::detail {

registration& reactor::add(int fd, bool writable) {
    registration& r = registrations_.take();
    r.open(fd, writable, tells_by_itself_ ? registration::flag{0} : registration::told);
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
