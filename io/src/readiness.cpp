#include <magpie/io/readiness.hpp>

#include "registration.hpp"

namespace magpie::io {

using detail::registration;

readiness::readiness(const detail::look& seen) noexcept {
    const auto set = [this](bool on, unsigned bit) {
        if (on)
            bits_ = static_cast<unsigned char>(bits_ | bit);
    };
    const bool read_closed = (seen.flags & registration::read_closed) != 0;
    const bool write_closed = (seen.flags & registration::write_closed) != 0;
    set(registration::is_event(seen.words[registration::reading]) || read_closed, 1);
    set(registration::is_event(seen.words[registration::writing]) || write_closed, 2);
    set((seen.flags & registration::has_priority) != 0, 4);
    set((seen.flags & registration::has_error) != 0, 8);
    set(read_closed, 16);
    set(write_closed, 32);
}

detail::attempt ready_operation::perform(int) noexcept {
    seen_ = registration_->see();
    result_ = (seen_.flags & registration::shut_down) != 0 ? runtime_gone : 0;
    return detail::attempt::done; // it was ready when it was looked at; now it may be less so
}

} // namespace magpie::io
