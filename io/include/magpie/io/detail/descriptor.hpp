#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <utility>

namespace magpie::io::detail {

class reactor;
class registration;

/// Owns a registered descriptor: one pointer. Closes it at its end.
class descriptor {
public:
    descriptor() noexcept = default;
    explicit descriptor(registration& r) noexcept : registration_(&r) {}
    descriptor(descriptor&& other) noexcept
        : registration_(std::exchange(other.registration_, nullptr)) {}
    descriptor& operator=(descriptor&& other) noexcept {
        descriptor old(std::exchange(registration_, std::exchange(other.registration_, nullptr)));
        return *this;
    }
    /// Terminates, with a sentence, if an operation waits on it.
    ~descriptor() {
        if (registration_ != nullptr)
            close();
    }

    explicit operator bool() const noexcept { return registration_ != nullptr; }

    /// @throws std::logic_error if it is empty
    registration& get() const {
        if (registration_ == nullptr) [[unlikely]]
            throw_empty();
        return *registration_;
    }
    int fd() const; ///< @throws std::logic_error if it is empty

    /// A second owner of the same descriptor, which is closed with the last.
    descriptor share() const;

    /// Whether both own the same descriptor.
    bool same(const descriptor& other) const noexcept { return registration_ == other.registration_; }

    /// Takes the descriptor out of the reactor and gives it to the caller.
    int release();

private:
    explicit descriptor(registration* r) noexcept : registration_(r) {}
    void close() noexcept;
    [[noreturn]] static void throw_empty();

    registration* registration_ = nullptr;
};

} // namespace magpie::io::detail
