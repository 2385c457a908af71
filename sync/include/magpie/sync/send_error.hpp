#pragma once

#include <magpie/sync/send_result.hpp>

#include <optional>
#include <system_error>
#include <utility>

namespace magpie::sync {

/// Why a send has not delivered its value, and the value: the error of `as_result(tx.send(std::move(v)))`.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
/// @par Example
/// @code
/// auto sent = co_await magpie::as_result(tx.send(next_job()));
/// if (!sent)
///     keep(std::move(sent).error().value());
/// @endcode
template <class T>
class send_error {
public:
    send_error(send_result why, T&& value) : why_(why), value_(std::move(value)) {}

    bool is_closed() const noexcept { return why_.is_closed(); }       ///< nobody will receive any more
    bool is_timed_out() const noexcept { return why_.is_timed_out(); } ///< only of a send_timeout

    T& value() & noexcept { return value_; }
    const T& value() const& noexcept { return value_; }
    T&& value() && noexcept { return std::move(value_); }

private:
    send_result why_;
    T value_;
};

/// What `as_result` of a send gives: true if the value was delivered, else the error with the value in it.
//
// Not a boost::system::result: its error() copies, and values may be move-only.
template <class T>
class [[nodiscard("a value that was not sent is in it")]] send_outcome {
public:
    /// What came of a send that takes from `v`. If it has not taken it, `v` is moved in here.
    send_outcome(send_result r, T& v) {
        if (!r)
            error_.emplace(r, std::move(v));
    }

    explicit operator bool() const noexcept { return !error_; }
    bool has_value() const noexcept { return !error_; }
    bool has_error() const noexcept { return error_.has_value(); }

    /// @pre it was not delivered
    send_error<T>& error() & noexcept { return *error_; }
    const send_error<T>& error() const& noexcept { return *error_; }
    send_error<T>&& error() && noexcept { return *std::move(error_); }

    /// @throws std::system_error if it was not delivered: `errc::broken_pipe`, `errc::timed_out`
    void value() const {
        if (error_)
            throw std::system_error(std::make_error_code(error_->is_closed() ? std::errc::broken_pipe
                                                                             : std::errc::timed_out),
                                    "a channel's send");
    }

private:
    std::optional<send_error<T>> error_;
};

} // namespace magpie::sync
