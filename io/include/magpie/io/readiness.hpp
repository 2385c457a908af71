#pragma once

#include <magpie/io/detail/io_operation.hpp>

#include <cstdint>

namespace magpie::io {

/// What to wait for on a descriptor: one of these, or several with `|`.
enum class interest : unsigned char {
    readable = detail::waits_for::read,
    writable = detail::waits_for::write,
    priority = detail::waits_for::priority, ///< urgent data (TCP), and what else POLLPRI stands for
    error = detail::waits_for::error,       ///< something in the socket's error queue, a broken pipe
};

constexpr interest operator|(interest a, interest b) noexcept {
    return static_cast<interest>(static_cast<unsigned char>(a) | static_cast<unsigned char>(b));
}

namespace detail {

/// What was known of a descriptor at one time.
struct look {
    std::uint64_t words[2];
    std::uint64_t extra; // when somebody was last told of priority or an error
    std::uint32_t flags;
};

} // namespace detail

/// What a descriptor is ready for, as far as is known: a system call may still find otherwise.
class readiness {
public:
    readiness() noexcept = default;
    explicit readiness(const detail::look& seen) noexcept;

    bool is_readable() const noexcept { return (bits_ & 1) != 0; }      ///< or read_closed
    bool is_writable() const noexcept { return (bits_ & 2) != 0; }      ///< or write_closed
    bool is_priority() const noexcept { return (bits_ & 4) != 0; }      ///< urgent data has come
    bool is_error() const noexcept { return (bits_ & 8) != 0; }         ///< an error was reported
    bool is_read_closed() const noexcept { return (bits_ & 16) != 0; }  ///< no more will be sent to us
    bool is_write_closed() const noexcept { return (bits_ & 32) != 0; } ///< nobody takes more of ours
    bool is_empty() const noexcept { return bits_ == 0; }

    friend bool operator==(readiness, readiness) noexcept = default;

private:
    unsigned char bits_ = 0;
};

/// The wait for readiness. @see tcp_stream::readable, async_fd::ready
///
/// @throws std::system_error `io_error::runtime_gone` when the runtime of the descriptor is shut down
/// @par Cancellation
/// Cancel-safe.
class [[nodiscard("co_await it")]] ready_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    ready_operation(detail::registration& r, interest what) noexcept
        : io_operation(&r, static_cast<unsigned char>(what)) {}
    ready_operation(ready_operation&&) noexcept = default;

    readiness await_resume() const {
        static_cast<void>(value("waiting for readiness"));
        return readiness(seen_);
    }
    result<readiness> take_result() const noexcept {
        if (result_ < 0)
            return {boost::system::in_place_error, error()};
        return {boost::system::in_place_value, readiness(seen_)};
    }

protected:
    detail::look seen_{};

private:
    detail::attempt perform(int fd) noexcept override;
};

} // namespace magpie::io
