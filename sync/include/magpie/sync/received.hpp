#pragma once

#include <cstdint>
#include <optional>
#include <utility>

namespace magpie::sync {

/// What came of a receive that can end in more ways than a value and the end: a `try_recv`, and each
/// receive of a broadcast. True if there is a value.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
template <class T>
class received {
public:
    /// A value.
    explicit received(T&& value) : value_(std::move(value)) {}

    /// No value just now.
    static received empty() noexcept { return received(reason::empty, 0); }
    /// No value any more.
    static received closed() noexcept { return received(reason::closed, 0); }
    /// `n` values were overwritten before this receiver came to them.
    static received missing(std::uint64_t n) noexcept { return received(reason::missed, n); }
    /// It was too slow, and is out.
    static received disconnected() noexcept { return received(reason::disconnected, 0); }

    explicit operator bool() const noexcept { return value_.has_value(); }
    bool has_value() const noexcept { return value_.has_value(); }
    bool is_empty() const noexcept { return !value_ && why_ == reason::empty; }
    bool is_closed() const noexcept { return !value_ && why_ == reason::closed; }
    bool is_disconnected() const noexcept { return !value_ && why_ == reason::disconnected; }
    /// How many values were missed; 0 if this is something else.
    std::uint64_t missed() const noexcept { return missed_; }

    /// The value. @pre there is one
    T& operator*() & noexcept { return *value_; }
    T&& operator*() && noexcept { return *std::move(value_); }
    const T& operator*() const& noexcept { return *value_; }
    T* operator->() noexcept { return &*value_; }
    const T* operator->() const noexcept { return &*value_; }

private:
    enum class reason : unsigned char { empty, closed, missed, disconnected };

    received(reason why, std::uint64_t missed) noexcept : why_(why), missed_(missed) {}

    std::optional<T> value_;
    reason why_ = reason::empty;
    std::uint64_t missed_ = 0;
};

} // namespace magpie::sync
