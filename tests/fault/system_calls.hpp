#pragma once

#include <array>
#include <atomic>
#include <cstddef>

// The program is linked with --wrap for these calls: those of magpie come here first, and go on to the
// system (or the sanitizer) unless a test has said that they fail. (Not read and write: by those workers
// wake each other. And no short reads or writes: what is short says that there is no more, and the
// system tells when there is; a call that was cut off here would wait for ever.)

namespace test {

enum class system_call {
    socket,
    connect,
    accept,
    receive,
    send,
    socket_error,
    watch,
    open_set,
    open_event,
    open_timer,
    wait
};

inline constexpr std::size_t system_calls = 11;

/// While it lives, calls of one kind fail: all, or the first few. They are not made then, but for a
/// `connect` that fails with EINTR: it goes on without the caller.
/// (`receive` is recv and recvmsg, `send` is send and sendmsg, `socket_error` what getsockopt says of
/// SO_ERROR, `watch` is epoll_ctl's adding, `open_set` epoll_create1, `open_event` eventfd, `open_timer`
/// timerfd_create, `wait` epoll_wait and ppoll.)
class failing {
public:
    static constexpr int always = -1;

    /// @param after  so many succeed before
    failing(system_call which, int error, int times = always, int after = 0) noexcept;
    failing(const failing&) = delete;
    ~failing();

    /// How many have failed so far.
    int failed() const noexcept;

private:
    const system_call which_;
};

} // namespace test
