#include <magpie/io/transfer.hpp>

#include "system.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace magpie::io {

using detail::attempt;

namespace detail {

std::int64_t receive_some(int fd, std::span<std::byte> into, receive_how how) noexcept {
    return uninterrupted([&] {
        return how == receive_file
                   ? ::read(fd, into.data(), into.size())
                   : ::recv(fd, into.data(), into.size(), how == receive_peek ? MSG_PEEK : 0);
    });
}

std::int64_t send_some(int fd, std::span<const std::byte> from, send_how how) noexcept {
    return uninterrupted([&] {
        return how == send_file ? ::write(fd, from.data(), from.size())
                                : ::send(fd, from.data(), from.size(), MSG_NOSIGNAL);
    });
}

namespace {

/// What a read or write that gave `n` of `wanted` bytes has come to. A short one has met the end of
/// what there was: the next would block (an end of stream apart, which the event has told).
attempt after(std::int64_t n, std::size_t wanted) noexcept {
    if (would_block(n))
        return attempt::would_block;
    if (n > 0 && static_cast<std::size_t>(n) < wanted)
        return attempt::drained;
    return attempt::done;
}

constexpr std::size_t most_buffers = 64;

/// The system's list of buffers, and their bytes in all.
template <class Byte>
class buffer_list {
public:
    explicit buffer_list(std::span<const std::span<Byte>> buffers) noexcept
        : count_(std::min(buffers.size(), most_buffers)) {
        for (std::size_t i = 0; i < count_; ++i) {
            list_[i].iov_base = const_cast<std::byte*>(buffers[i].data());
            list_[i].iov_len = buffers[i].size();
            bytes_ += buffers[i].size();
        }
        header_.msg_iov = list_.data();
        header_.msg_iovlen = count_;
    }
    msghdr* header() noexcept { return &header_; }
    std::size_t bytes() const noexcept { return bytes_; }

private:
    std::array<iovec, most_buffers> list_;
    msghdr header_{};
    std::size_t count_;
    std::size_t bytes_ = 0;
};

} // namespace
} // namespace detail

attempt read_operation::perform(int fd) noexcept {
    const auto how = static_cast<detail::receive_how>(kind());
    const std::int64_t n = detail::receive_some(fd, {static_cast<std::byte*>(data_), size_}, how);
    const attempt a = detail::after(n, size_);
    if (a == attempt::would_block)
        return a;
    result_ = n;
    return how == detail::receive_peek ? attempt::done : a; // what was peeked at is still there
}

attempt read_vectored_operation::perform(int fd) noexcept {
    detail::buffer_list<std::byte> list({static_cast<const std::span<std::byte>*>(data_), size_});
    if (list.bytes() == 0)
        return result_ = 0, attempt::done;
    const std::int64_t n = detail::uninterrupted([&] { return ::recvmsg(fd, list.header(), 0); });
    const attempt a = detail::after(n, list.bytes());
    if (a != attempt::would_block)
        result_ = n;
    return a;
}

attempt read_exact_operation::perform(int fd) noexcept {
    while (!left_.empty()) {
        const std::int64_t n = detail::receive_some(fd, left_,
                                                    static_cast<detail::receive_how>(kind()));
        const attempt a = detail::after(n, left_.size());
        if (a == attempt::would_block)
            return a;
        if (n <= 0) {
            result_ = n == 0 ? end_too_early : n;
            return attempt::done;
        }
        left_ = left_.subspan(static_cast<std::size_t>(n));
    }
    result_ = 0;
    return attempt::done;
}

attempt write_operation::perform(int fd) noexcept {
    const std::int64_t n = detail::send_some(fd, {static_cast<const std::byte*>(data_), size_},
                                             static_cast<detail::send_how>(kind()));
    const attempt a = detail::after(n, size_);
    if (a != attempt::would_block)
        result_ = n;
    return a;
}

attempt write_vectored_operation::perform(int fd) noexcept {
    detail::buffer_list<const std::byte> list(
        {static_cast<const std::span<const std::byte>*>(data_), size_});
    const std::int64_t n = detail::uninterrupted(
        [&] { return ::sendmsg(fd, list.header(), MSG_NOSIGNAL); });
    const attempt a = detail::after(n, list.bytes());
    if (a != attempt::would_block)
        result_ = n;
    return a;
}

attempt write_all_operation::perform(int fd) noexcept {
    while (!left_.empty()) {
        const std::int64_t n = detail::send_some(fd, left_, static_cast<detail::send_how>(kind()));
        const attempt a = detail::after(n, left_.size());
        if (a == attempt::would_block)
            return a;
        if (n < 0) {
            result_ = n;
            return attempt::done;
        }
        left_ = left_.subspan(static_cast<std::size_t>(n));
        if (a == attempt::drained)
            return attempt::would_block; // the buffer is full: the call that says so is saved
    }
    result_ = 0;
    return attempt::done;
}

} // namespace magpie::io
