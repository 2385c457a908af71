#pragma once

#include <magpie/core/config.hpp>

#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace magpie::detail {

struct unit {};

/// How a `T` is kept: references as pointers, void as a unit.
template <class T>
struct stored {
    using type = std::remove_cv_t<T>;
};
template <class T>
struct stored<T&> {
    using type = T*;
};
template <>
struct stored<void> {
    using type = unit;
};
template <class T>
using stored_t = typename stored<T>::type;

/// Where a result is written: nothing yet, a value, or an exception.
template <class T>
class outcome {
public:
    using value_type = stored_t<T>;
    static_assert(alignof(value_type) <= 64, "results are aligned to 64 bytes at most: frames are");

    outcome() noexcept {}
    outcome(const outcome&) = delete;
    outcome& operator=(const outcome&) = delete;
    ~outcome() { destroy(kind_); }

    bool empty() const noexcept { return kind_ == kind::none; }
    bool has_error() const noexcept { return kind_ == kind::error; }
    bool has_value() const noexcept { return kind_ == kind::value; }

    template <class... Args>
    void emplace(Args&&... args) {
        // A destructor that threw may have taken an earlier co_return back.
        constexpr bool is_overwritten = std::is_trivially_destructible_v<value_type> &&
                                        std::is_nothrow_constructible_v<value_type, Args&&...>;
        if (!is_overwritten || kind_ == kind::error)
            reset();
        ::new (static_cast<void*>(std::addressof(value_))) value_type(std::forward<Args>(args)...);
        kind_ = kind::value;
    }

    /// Puts an exception in place of whatever was there.
    void fail(std::exception_ptr error) noexcept {
        reset();
        ::new (static_cast<void*>(std::addressof(error_))) std::exception_ptr(std::move(error));
        kind_ = kind::error;
    }

    /// Gives the value, or throws the exception; either only once.
    T take() {
        if (kind_ == kind::error) [[unlikely]]
            std::rethrow_exception(take_error());
        MAGPIE_ASSERT(has_value());
        if constexpr (std::is_lvalue_reference_v<T>)
            return *value_;
        else
            return std::move(value_);
    }

    std::exception_ptr take_error() noexcept {
        MAGPIE_ASSERT(has_error());
        std::exception_ptr error = std::move(error_);
        reset();
        return error;
    }

    const std::exception_ptr& error() const noexcept { return error_; }

    /// Destroys what is there. A value's destructor may throw.
    void reset() noexcept(std::is_nothrow_destructible_v<value_type>) {
        destroy(std::exchange(kind_, kind::none));
    }

private:
    enum class kind : unsigned char { none, value, error };

    void destroy(kind was) noexcept(std::is_nothrow_destructible_v<value_type>) {
        if (was == kind::value)
            value_.~value_type();
        else if (was == kind::error) [[unlikely]]
            error_.~exception_ptr();
    }

    union {
        value_type value_;
        std::exception_ptr error_;
    };
    kind kind_ = kind::none;
};

/// That of a task that gives nothing: one word, for there may be a million.
template <>
class outcome<void> {
public:
    using value_type = unit;

    outcome() noexcept : word_(none) {}
    outcome(const outcome&) = delete;
    outcome& operator=(const outcome&) = delete;
    ~outcome() { reset(); }

    bool empty() const noexcept { return word() == none; }
    bool has_error() const noexcept { return word() > value; }
    bool has_value() const noexcept { return word() == value; }

    void emplace() noexcept {
        reset();
        word_ = value;
    }

    /// @param error  not null
    void fail(std::exception_ptr error) noexcept {
        MAGPIE_ASSERT(error != nullptr);
        reset();
        ::new (static_cast<void*>(std::addressof(error_))) std::exception_ptr(std::move(error));
    }

    void take() {
        if (has_error()) [[unlikely]]
            std::rethrow_exception(take_error());
        MAGPIE_ASSERT(has_value());
    }

    std::exception_ptr take_error() noexcept {
        MAGPIE_ASSERT(has_error());
        std::exception_ptr error = std::move(error_);
        reset();
        return error;
    }

    const std::exception_ptr& error() const noexcept { return error_; }

    void reset() noexcept {
        if (has_error()) [[unlikely]]
            error_.~exception_ptr();
        word_ = none;
    }

private:
    // An exception_ptr is the address of an exception, and so neither of these; moved from, it is null.
    static constexpr std::uintptr_t none = 0;
    static constexpr std::uintptr_t value = 1;
    static_assert(sizeof(std::exception_ptr) == sizeof(std::uintptr_t));

    std::uintptr_t word() const noexcept { // of whichever is there
        std::uintptr_t w;
        std::memcpy(&w, static_cast<const void*>(std::addressof(error_)), sizeof w);
        return w;
    }

    union {
        std::uintptr_t word_;
        std::exception_ptr error_;
    };
};

} // namespace magpie::detail
