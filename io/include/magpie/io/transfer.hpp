#pragma once

#include <magpie/io/detail/io_operation.hpp>

#include <cstddef>
#include <span>

// The operations that move bytes. Each is a leaf: it has no coroutine frame, and does not contain the
// buffer, which has to stay until it is over.

namespace magpie::io {

namespace detail {

/// The system call behind a read.
enum receive_how : unsigned char { receive, receive_peek, receive_file };
/// The system call behind a write.
enum send_how : unsigned char { send_socket, send_file };

std::int64_t receive_some(int fd, std::span<std::byte> into, receive_how how) noexcept;
std::int64_t send_some(int fd, std::span<const std::byte> from, send_how how) noexcept;

} // namespace detail

/// A read of what there is. Cancel-safe. @see tcp_stream::read
class [[nodiscard("co_await it")]] read_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    read_operation(detail::registration& r, std::span<std::byte> into,
                   detail::receive_how how = detail::receive) noexcept
        : io_operation(into.empty() ? nullptr : &r, detail::waits_for::read, how, into.data(),
                       into.size()) {}
    read_operation(read_operation&&) noexcept = default;

    std::size_t await_resume() const { return static_cast<std::size_t>(value("read")); }
    result<std::size_t> take_result() const noexcept { return as<std::size_t>(); }

private:
    detail::attempt perform(int fd) noexcept override;
};

class [[nodiscard("co_await it")]] read_vectored_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    read_vectored_operation(detail::registration& r,
                            std::span<const std::span<std::byte>> into) noexcept
        : io_operation(&r, detail::waits_for::read, 0, into.data(), into.size()) {}
    read_vectored_operation(read_vectored_operation&&) noexcept = default;

    std::size_t await_resume() const { return static_cast<std::size_t>(value("read")); }
    result<std::size_t> take_result() const noexcept { return as<std::size_t>(); }

private:
    detail::attempt perform(int fd) noexcept override;
};

/// A read that fills its buffer. Dropped half-way, what was read is lost.
class [[nodiscard("co_await it")]] read_exact_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::lossy;

    read_exact_operation(detail::registration& r, std::span<std::byte> into,
                         detail::receive_how how = detail::receive) noexcept
        : io_operation(into.empty() ? nullptr : &r, detail::waits_for::read, how), left_(into) {}
    read_exact_operation(read_exact_operation&&) noexcept = default;

    void await_resume() const { static_cast<void>(value("read_exact")); }
    result<void> take_result() const noexcept { return as<void>(); }

private:
    detail::attempt perform(int fd) noexcept override;

    std::span<std::byte> left_;
};

/// A write of what there is room for. Cancel-safe. @see tcp_stream::write
class [[nodiscard("co_await it")]] write_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    write_operation(detail::registration& r, std::span<const std::byte> from,
                    detail::send_how how = detail::send_socket) noexcept
        : io_operation(from.empty() ? nullptr : &r, detail::waits_for::write, how, from.data(),
                       from.size()) {}
    write_operation(write_operation&&) noexcept = default;

    std::size_t await_resume() const { return static_cast<std::size_t>(value("write")); }
    result<std::size_t> take_result() const noexcept { return as<std::size_t>(); }

private:
    detail::attempt perform(int fd) noexcept override;
};

class [[nodiscard("co_await it")]] write_vectored_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    write_vectored_operation(detail::registration& r,
                             std::span<const std::span<const std::byte>> from) noexcept
        : io_operation(&r, detail::waits_for::write, 0, from.data(), from.size()) {}
    write_vectored_operation(write_vectored_operation&&) noexcept = default;

    std::size_t await_resume() const { return static_cast<std::size_t>(value("write")); }
    result<std::size_t> take_result() const noexcept { return as<std::size_t>(); }

private:
    detail::attempt perform(int fd) noexcept override;
};

/// A write of everything. Dropped half-way, part of it was written.
class [[nodiscard("co_await it")]] write_all_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::lossy;

    write_all_operation(detail::registration& r, std::span<const std::byte> from,
                        detail::send_how how = detail::send_socket) noexcept
        : io_operation(from.empty() ? nullptr : &r, detail::waits_for::write, how), left_(from) {}
    write_all_operation(write_all_operation&&) noexcept = default;

    void await_resume() const { static_cast<void>(value("write_all")); }
    result<void> take_result() const noexcept { return as<void>(); }

private:
    detail::attempt perform(int fd) noexcept override;

    std::span<const std::byte> left_;
};

} // namespace magpie::io
