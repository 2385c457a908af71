#pragma once

#include <optional>
#include <utility>

namespace magpie::sync {

/// What came of a send. True if the value was delivered.
///
/// A send that is not delivered has not touched the value: it is where it was, in the caller's
/// variable. That is how all channels give it back.
///
/// @par Thread safety
/// A plain value.
class [[nodiscard("a send into a closed channel delivers nothing")]] send_result {
public:
    enum class status : unsigned char {
        sent,
        closed,    ///< nobody will receive any more
        full,      ///< only of a try: there is no room just now, or others wait for it
        timed_out, ///< only of a send_timeout
    };

    constexpr explicit send_result(status s) noexcept : status_(s) {}

    constexpr explicit operator bool() const noexcept { return status_ == status::sent; }
    constexpr bool is_closed() const noexcept { return status_ == status::closed; }
    constexpr bool is_full() const noexcept { return status_ == status::full; }
    constexpr bool is_timed_out() const noexcept { return status_ == status::timed_out; }

    friend constexpr bool operator==(send_result, send_result) noexcept = default;

private:
    status status_;
};

/// What came of a reservation: the permit, or why there is none.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
template <class Permit>
class [[nodiscard("the permit is given back when it is dropped")]] reservation {
public:
    explicit reservation(Permit&& p) noexcept : permit_(std::move(p)) {}
    explicit reservation(send_result why) noexcept : why_(why) {}

    explicit operator bool() const noexcept { return permit_.has_value(); }
    bool is_closed() const noexcept { return why_.is_closed(); } ///< nobody will receive any more
    bool is_full() const noexcept { return why_.is_full(); }     ///< no room, or others wait for it

    /// The permit. @pre there is one
    Permit& operator*() & noexcept { return *permit_; }
    Permit&& operator*() && noexcept { return *std::move(permit_); }
    Permit* operator->() noexcept { return &*permit_; }

private:
    std::optional<Permit> permit_;
    send_result why_{send_result::status::sent};
};

} // namespace magpie::sync
