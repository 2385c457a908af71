#pragma once

#include <magpie/io/detail/descriptor.hpp>
#include <magpie/io/detail/io_operation.hpp>
#include <magpie/io/endpoint.hpp>
#include <magpie/io/readiness.hpp>
#include <magpie/io/transfer.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <source_location>
#include <span>
#include <string_view>
#include <utility>

namespace magpie::io {

class named_connect_operation;
class tcp_socket;
class tcp_stream;

/// Which directions `shutdown` ends.
enum class shutdown_side : int {
    read = 0,  ///< what still comes is discarded; a read gives 0
    write = 1, ///< the peer reads to the end and is told so; a write fails
    both = 2,
};

/// When the system asks a silent peer whether it is still there.
class keepalive {
public:
    /// @param idle      of silence before the first question, 1 s to 32767 s
    /// @param interval  between two questions, 1 s to 32767 s
    /// @param count     of unanswered ones before the connection is given up, 1 to 127
    explicit keepalive(std::chrono::seconds idle = std::chrono::seconds(7200),
                       std::chrono::seconds interval = std::chrono::seconds(75), int count = 9) noexcept
        : idle(idle), interval(interval), count(count) {}

    std::chrono::seconds idle;
    std::chrono::seconds interval;
    int count;
};

/// The making of a connection. @see tcp_stream::connect
class [[nodiscard("co_await it")]] connect_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    connect_operation(detail::reactor& r, const endpoint& peer) noexcept;
    connect_operation(detail::reactor& r, int socket, const endpoint& peer) noexcept;
    connect_operation(connect_operation&& other) noexcept;
    ~connect_operation();

    tcp_stream await_resume();
    result<tcp_stream> take_result();

private:
    bool begin() noexcept override;
    detail::attempt perform(int fd) noexcept override;

    detail::reactor* reactor_; // one of its users
    int socket_ = -1;          // until it is registered
    endpoint peer_;
    detail::descriptor connection_;
};

/// A TCP connection.
///
/// Reads and writes are made at once if they can be, and else when the reactor reports that they can.
/// `as_result(stream.read(...))` gives a `magpie::result` and throws nothing.
///
/// @par Thread safety
/// Distinct objects: safe. One object: operations may be awaited on several tasks at once, the
/// destructor, moves and `release` aside. Bytes of two writes, or two reads, that wait at the same
/// time may come in either order, each in one piece per system call.
///
/// @par Lifetime
/// It must not go while an operation waits on it (that terminates, with a sentence). When its runtime
/// is shut down, operations give `io_error::runtime_gone`; destroying it later is fine.
///
/// @par Example
/// @code
/// magpie::task<> echo(magpie::io::tcp_stream peer) {
///     std::array<std::byte, 4096> buffer;
///     for (;;) {
///         const std::size_t n = co_await peer.read(buffer);
///         if (n == 0)
///             co_return; // the peer has sent everything
///         co_await peer.write_all(std::span(buffer).first(n));
///     }
/// }
/// @endcode
class tcp_stream {
public:
    tcp_stream() noexcept = default; ///< An empty one, to be assigned to.

    /// Connects.
    ///
    /// @throws std::system_error: connection_refused, network_unreachable, timed_out, ...; when there
    ///         are no descriptors left, too_many_files_open. std::logic_error outside of a runtime
    /// @par Cancellation
    /// Cancel-safe: a dropped call closes its socket.
    static connect_operation connect(const endpoint& peer,
                                     std::source_location where = std::source_location::current());

    /// Connects to a host by its name: looks it up (see `resolve`), and tries its addresses one after
    /// another until one takes the connection.
    ///
    /// @param host_and_port  "example.org:443"; the port may be a service by name
    /// @throws what `resolve` throws, and for the last address that was tried what `connect` throws.
    ///         An address that does not answer takes minutes: put a `timeout` around it
    /// @par Cancellation
    /// Cancel-safe, as both.
    static named_connect_operation connect(
        std::string_view host, std::uint16_t port,
        std::source_location where = std::source_location::current());
    static named_connect_operation connect(
        std::string_view host_and_port, std::source_location where = std::source_location::current());

    /// Reads what there is, at least one byte.
    ///
    /// @return how many bytes; 0 at the end of the stream, or if `into` is empty
    /// @throws std::system_error: connection_reset, timed_out, ...
    /// @par Cancellation
    /// Cancel-safe: a dropped call has read nothing.
    read_operation read(std::span<std::byte> into) { return read_operation(socket_.get(), into); }
    /// The same into several buffers, of which at most 64 are used.
    read_vectored_operation read(std::span<const std::span<std::byte>> into) {
        return read_vectored_operation(socket_.get(), into);
    }
    /// The same, leaving the bytes there for the next read.
    read_operation peek(std::span<std::byte> into) {
        return read_operation(socket_.get(), into, detail::receive_peek);
    }
    /// Fills `into`. Dropped half-way, what was read is lost.
    /// @throws as `read`; std::system_error io_error::unexpected_end when the stream ends before
    read_exact_operation read_exact(std::span<std::byte> into) {
        return read_exact_operation(socket_.get(), into);
    }

    /// Writes what there is room for, at least one byte.
    ///
    /// @return how many bytes were taken; 0 only if `from` is empty
    /// @throws std::system_error: broken_pipe (never a signal), connection_reset, timed_out, ...
    /// @par Cancellation
    /// Cancel-safe: a dropped call has written nothing.
    write_operation write(std::span<const std::byte> from) {
        return write_operation(socket_.get(), from);
    }
    /// The same from several buffers, of which at most 64 are used.
    write_vectored_operation write(std::span<const std::span<const std::byte>> from) {
        return write_vectored_operation(socket_.get(), from);
    }
    /// Writes all of it. Dropped half-way, part of it was written.
    write_all_operation write_all(std::span<const std::byte> from) {
        return write_all_operation(socket_.get(), from);
    }

    /// Reads or writes only what is possible at once; else `operation_would_block`. Never waits.
    result<std::size_t> try_read(std::span<std::byte> into);
    result<std::size_t> try_write(std::span<const std::byte> from);

    /// Waits until a read (a write) is worth trying. May be wrong: then try_read says so, and the next
    /// wait waits.
    ready_operation readable() { return ready_operation(socket_.get(), interest::readable); }
    ready_operation writable() { return ready_operation(socket_.get(), interest::writable); }
    ready_operation ready(interest what) { return ready_operation(socket_.get(), what); }

    /// Ends one or both directions, also for operations that wait now. Repeated: nothing happens.
    /// @throws std::system_error not_connected after the connection has broken
    void shutdown(shutdown_side side);

    endpoint local_endpoint() const;
    endpoint remote_endpoint() const; ///< @throws std::system_error not_connected

    bool nodelay() const;      ///< Whether small writes are sent at once.
    void set_nodelay(bool on); ///< On: Nagle's algorithm is off.
    /// How long closing waits for what is not acknowledged yet: 0 resets the connection, none (the
    /// default) goes on in the background. Closing blocks the thread for that time.
    std::optional<std::chrono::seconds> linger() const;
    void set_linger(std::optional<std::chrono::seconds> how_long);
    std::optional<magpie::io::keepalive> keepalive() const;
    void set_keepalive(std::optional<magpie::io::keepalive> k); ///< None: no questions.
    std::chrono::milliseconds user_timeout() const;
    void set_user_timeout(
        std::chrono::milliseconds t); ///< Unacknowledged for so long: timed_out. 0: the system's.
    std::size_t receive_buffer_size() const;
    void set_receive_buffer_size(std::size_t bytes); ///< A wish: Linux doubles it.
    std::size_t send_buffer_size() const;
    void set_send_buffer_size(std::size_t bytes);
    unsigned time_to_live() const;
    void set_time_to_live(unsigned hops); ///< 1 to 255

    /// The last error of the socket that nobody was told, and clears it; none is 0.
    boost::system::error_code take_error();

    /// Takes a connected, non-blocking socket over, into the runtime of the caller.
    /// @throws std::invalid_argument if it is anything else: it is still the caller's then
    static tcp_stream adopt(int fd, std::source_location where = std::source_location::current());
    /// Gives the descriptor to the caller, non-blocking. Nothing may wait on it.
    int release() { return socket_.release(); }
    int native_handle() const { return socket_.fd(); }

    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

private:
    friend class connect_operation;
    friend class accept_operation;
    friend class tcp_listener;
    friend class owned_halves;
    friend tcp_stream reunite(class owned_read_half read, class owned_write_half write);
    explicit tcp_stream(detail::descriptor socket) noexcept : socket_(std::move(socket)) {}

    detail::descriptor socket_;
};

} // namespace magpie::io

#include <magpie/io/tcp_connect.hpp> // what `connect` with a name gives; it needs tcp_stream itself
