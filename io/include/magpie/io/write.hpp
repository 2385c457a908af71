#pragma once

#include <magpie/io/detail/repeated.hpp>
#include <magpie/io/stream.hpp>

#include <cstddef>
#include <span>
#include <utility>

namespace magpie::io {

namespace detail {

/// Writes until nothing is left.
template <async_write_stream Stream>
class drain {
public:
    using operation = decltype(std::declval<Stream&>().write(std::span<const std::byte>()));

    drain(Stream& s, std::span<const std::byte> from) noexcept : stream_(&s), left_(from) {}

    bool is_complete() const noexcept { return left_.empty(); }
    operation next() { return stream_->write(left_); }
    boost::system::error_code moved(std::size_t n) noexcept {
        left_ = left_.subspan(n);
        return n == 0 ? errc::make_error_code(errc::broken_pipe) : boost::system::error_code();
    }

private:
    Stream* stream_;
    std::span<const std::byte> left_;
};

} // namespace detail

/// Writes all of `from` to any stream.
///
/// @throws what the stream's writes throw; broken_pipe if one takes nothing
/// @par Cancellation
/// Dropped half-way, part of it was written: not cancel-safe.
/// @par Complexity
/// No allocation beyond the stream's.
template <async_write_stream Stream>
auto write_all(Stream& stream, std::span<const std::byte> from) {
    if constexpr (requires { stream.write_all(from); })
        return stream.write_all(from); // it has a way of its own
    else
        return detail::repeated_operation<detail::drain<Stream>>(detail::drain<Stream>(stream, from));
}

} // namespace magpie::io
