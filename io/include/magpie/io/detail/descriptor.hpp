#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <utility>

namespace magpie::io::detail {

class reactor;
class registration;

/// Owns a registered descriptor: four bytes, for there are as many as connections. Closes it at its end.
class descriptor {
public:
    descriptor() noexcept = default;
    explicit descriptor(registration& r) noexcept;
    descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, none)) {}
    descriptor& operator=(descriptor&& other) noexcept {
        descriptor old(std::exchange(number_, std::exchange(other.number_, none)));
        return *this;
    }
    /// Terminates, with a sentence, if an operation waits on it.
    ~descriptor() {
        if (number_ != none)
            close();
    }

    explicit operator bool() const noexcept { return number_ != none; }

    /// @throws std::logic_error if it is empty
    registration& get() const;
    int fd() const; ///< @throws std::logic_error if it is empty

    /// A second owner of the same descriptor, which is closed with the last.
    descriptor share() const;

    /// Whether both own the same descriptor.
    bool same(const descriptor& other) const noexcept { return number_ == other.number_; }

    /// Takes the descriptor out of the reactor and gives it to the caller.
    int release();

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};
    explicit descriptor(std::uint32_t number) noexcept : number_(number) {}
    void close() noexcept;

    std::uint32_t number_ = none; // of its registration
};

} // namespace magpie::io::detail
