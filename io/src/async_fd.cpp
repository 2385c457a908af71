#include <magpie/io/async_fd.hpp>

#include "system.hpp"

#include <fcntl.h>
#include <stdexcept>

namespace magpie::io {

using detail::registration;

void ready_guard::clear_ready() noexcept {
    clear_ready(interest::readable | interest::writable | interest::priority | interest::error);
}

void ready_guard::clear_ready(interest which) noexcept {
    const auto bits = static_cast<unsigned char>(which);
    if ((bits & detail::waits_for::read) != 0 &&
        registration::is_event(seen_.words[registration::reading]))
        registration_->forget(registration::reading, seen_.words[registration::reading]);
    if ((bits & detail::waits_for::write) != 0 &&
        registration::is_event(seen_.words[registration::writing]))
        registration_->forget(registration::writing, seen_.words[registration::writing]);
    if (const unsigned extra = bits >> 2; (seen_.flags & registration::extra_flags(extra)) != 0)
        registration_->forget_extra(seen_.extra, extra);
}

async_fd::async_fd(int fd, std::source_location where) {
    detail::reactor& r = detail::reactor::current("async_fd", where);
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags == -1)
        throw std::invalid_argument("async_fd: this is not an open descriptor");
    if ((flags & O_NONBLOCK) == 0)
        throw std::invalid_argument("async_fd: this descriptor blocks, and would block the worker: set "
                                    "O_NONBLOCK first (fcntl F_SETFL)");
    registration_ = detail::descriptor(r.add(fd, false));
}

ready_guard async_fd::seen() const {
    registration& r = registration_.get();
    return ready_guard(r, r.see());
}

bool async_fd::is_ready(interest what) const {
    registration& r = registration_.get();
    return registration::any(r.see(), static_cast<unsigned char>(what));
}

} // namespace magpie::io
