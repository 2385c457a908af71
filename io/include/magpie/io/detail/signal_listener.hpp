#pragma once

#include <magpie/io/detail/descriptor.hpp>

#include <source_location>
#include <span>
#include <utility>

namespace magpie::io::detail {

class signal_slot;

/// An eventfd in the reactor, and the slot from which the signal handler writes to it.
class signal_listener {
public:
    signal_listener(std::span<const int> which, const char* what, std::source_location where);
    signal_listener(signal_listener&& other) noexcept
        : descriptor_(std::move(other.descriptor_)), slot_(std::exchange(other.slot_, nullptr)) {}
    signal_listener& operator=(signal_listener&& other) noexcept {
        signal_listener old(std::move(*this));
        descriptor_ = std::move(other.descriptor_);
        slot_ = std::exchange(other.slot_, nullptr);
        return *this;
    }
    ~signal_listener();

    /// @throws std::logic_error if it was moved from
    registration& events() const { return descriptor_.get(); }
    signal_slot& slot() const noexcept { return *slot_; }

private:
    descriptor descriptor_;
    signal_slot* slot_ = nullptr;
};

} // namespace magpie::io::detail
