#pragma once

#include <magpie/io/tcp_stream.hpp>

#include <cstddef>
#include <span>
#include <utility>

namespace magpie::io {

/// The reading side of a stream that somebody else owns. A pointer: copies are as good.
class tcp_read_half {
public:
    explicit tcp_read_half(tcp_stream& s) noexcept : stream_(&s) {}

    // As tcp_stream's.
    read_operation read(std::span<std::byte> into) { return stream_->read(into); }
    read_vectored_operation read(std::span<const std::span<std::byte>> into) {
        return stream_->read(into);
    }
    read_operation peek(std::span<std::byte> into) { return stream_->peek(into); }
    read_exact_operation read_exact(std::span<std::byte> into) { return stream_->read_exact(into); }
    result<std::size_t> try_read(std::span<std::byte> into) { return stream_->try_read(into); }
    ready_operation readable() { return stream_->readable(); }

private:
    tcp_stream* stream_;
};

/// The writing side of a stream that somebody else owns.
class tcp_write_half {
public:
    explicit tcp_write_half(tcp_stream& s) noexcept : stream_(&s) {}

    // As tcp_stream's.
    write_operation write(std::span<const std::byte> from) { return stream_->write(from); }
    write_vectored_operation write(std::span<const std::span<const std::byte>> from) {
        return stream_->write(from);
    }
    write_all_operation write_all(std::span<const std::byte> from) { return stream_->write_all(from); }
    result<std::size_t> try_write(std::span<const std::byte> from) { return stream_->try_write(from); }
    ready_operation writable() { return stream_->writable(); }
    void shutdown() { stream_->shutdown(shutdown_side::write); }

private:
    tcp_stream* stream_;
};

/// The reading side of a stream, for a task of its own: the descriptor is closed with the last half.
class owned_read_half {
public:
    owned_read_half() noexcept = default;

    // As tcp_stream's.
    read_operation read(std::span<std::byte> into) { return stream_.read(into); }
    read_vectored_operation read(std::span<const std::span<std::byte>> into) {
        return stream_.read(into);
    }
    read_operation peek(std::span<std::byte> into) { return stream_.peek(into); }
    read_exact_operation read_exact(std::span<std::byte> into) { return stream_.read_exact(into); }
    result<std::size_t> try_read(std::span<std::byte> into) { return stream_.try_read(into); }
    ready_operation readable() { return stream_.readable(); }
    endpoint local_endpoint() const { return stream_.local_endpoint(); }
    endpoint remote_endpoint() const { return stream_.remote_endpoint(); }

private:
    friend class owned_halves;
    friend tcp_stream reunite(owned_read_half read, class owned_write_half write);
    explicit owned_read_half(tcp_stream s) noexcept : stream_(std::move(s)) {}

    tcp_stream stream_;
};

/// The writing side of a stream, for a task of its own. When it goes, the peer reads to the end
/// (`shutdown`), unless `forget` was called.
class owned_write_half {
public:
    owned_write_half() noexcept = default;
    owned_write_half(owned_write_half&&) noexcept = default;
    owned_write_half& operator=(owned_write_half&& other) noexcept;
    ~owned_write_half() { end(); }

    // As tcp_stream's.
    write_operation write(std::span<const std::byte> from) { return stream_.write(from); }
    write_vectored_operation write(std::span<const std::span<const std::byte>> from) {
        return stream_.write(from);
    }
    write_all_operation write_all(std::span<const std::byte> from) { return stream_.write_all(from); }
    result<std::size_t> try_write(std::span<const std::byte> from) { return stream_.try_write(from); }
    ready_operation writable() { return stream_.writable(); }
    void shutdown() { stream_.shutdown(shutdown_side::write); }
    endpoint local_endpoint() const { return stream_.local_endpoint(); }
    endpoint remote_endpoint() const { return stream_.remote_endpoint(); }

    /// Lets go of this half without telling the peer.
    void forget() { stream_ = tcp_stream(); }

private:
    friend class owned_halves;
    friend tcp_stream reunite(owned_read_half read, owned_write_half write);
    explicit owned_write_half(tcp_stream s) noexcept : stream_(std::move(s)) {}
    void end() noexcept;

    tcp_stream stream_;
};

/// Both halves of a stream. @see split
class halves {
public:
    explicit halves(tcp_stream& s) noexcept : read(s), write(s) {}

    tcp_read_half read;
    tcp_write_half write;
};

/// Both halves of a stream, each to be moved where it is used. @see into_halves
class owned_halves {
public:
    explicit owned_halves(tcp_stream s);

    owned_read_half read;
    owned_write_half write;
};

/// For reading and writing in two branches of one task, which shares the stream.
inline halves split(tcp_stream& s) noexcept { return halves(s); }

/// For reading and writing on two tasks. @throws std::logic_error if `s` is empty
inline owned_halves into_halves(tcp_stream s) { return owned_halves(std::move(s)); }

/// Makes one stream of its halves again.
/// @throws std::invalid_argument if they are not of one stream; both are closed then
tcp_stream reunite(owned_read_half read, owned_write_half write);

} // namespace magpie::io
