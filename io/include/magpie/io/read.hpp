#pragma once

#include <magpie/io/detail/repeated.hpp>
#include <magpie/io/error.hpp>
#include <magpie/io/stream.hpp>

#include <cstddef>
#include <span>
#include <utility>

namespace magpie::io {

namespace detail {

/// Reads until the buffer is full.
template <async_read_stream Stream>
class fill {
public:
    using operation = decltype(std::declval<Stream&>().read(std::span<std::byte>()));

    fill(Stream& s, std::span<std::byte> into) noexcept : stream_(&s), left_(into) {}

    bool is_complete() const noexcept { return left_.empty(); }
    operation next() { return stream_->read(left_); }
    boost::system::error_code moved(std::size_t n) noexcept {
        left_ = left_.subspan(n);
        return n == 0 ? make_error_code(io_error::unexpected_end) : boost::system::error_code();
    }

private:
    Stream* stream_;
    std::span<std::byte> left_;
};

} // namespace detail

/// Fills `into` from any stream.
///
/// @throws what the stream's reads throw; std::system_error io_error::unexpected_end when it ends
///         before
/// @par Cancellation
/// Dropped half-way, what was read is lost: not cancel-safe.
/// @par Complexity
/// No allocation beyond the stream's.
template <async_read_stream Stream>
auto read_exact(Stream& stream, std::span<std::byte> into) {
    if constexpr (requires { stream.read_exact(into); })
        return stream.read_exact(into); // it has a way of its own
    else
        return detail::repeated_operation<detail::fill<Stream>>(detail::fill<Stream>(stream, into));
}

} // namespace magpie::io
