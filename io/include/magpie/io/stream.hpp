#pragma once

#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/operation.hpp>

#include <concepts>
#include <cstddef>
#include <span>

namespace magpie::io {

/// Something that can be awaited in a magpie task and then gives a `T`.
template <class A, class T>
concept awaitable_of = magpie::detail::leaf_operation<A> && requires(A& a) {
    { a.await_resume() } -> std::convertible_to<T>;
};

/// Something that is read from: `read` gives how many bytes it has put into the buffer, at least one
/// if that is not empty, and 0 at the end.
template <class S>
concept async_read_stream = requires(S& s, std::span<std::byte> into) {
    { s.read(into) } -> awaitable_of<std::size_t>;
};

/// Something that is written to: `write` gives how many bytes it has taken, at least one if there are
/// any.
template <class S>
concept async_write_stream = requires(S& s, std::span<const std::byte> from) {
    { s.write(from) } -> awaitable_of<std::size_t>;
};

template <class S>
concept async_stream = async_read_stream<S> && async_write_stream<S>;

} // namespace magpie::io
