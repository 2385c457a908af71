#include <magpie/io/tcp_halves.hpp>

#include <stdexcept>
#include <sys/socket.h>

namespace magpie::io {

owned_write_half& owned_write_half::operator=(owned_write_half&& other) noexcept {
    if (this != &other) {
        end();
        stream_ = std::move(other.stream_);
    }
    return *this;
}

void owned_write_half::end() noexcept {
    if (stream_) // the connection may have broken already, and then it has nothing to say
        static_cast<void>(::shutdown(stream_.native_handle(), SHUT_WR));
}

owned_halves::owned_halves(tcp_stream s)
    : read(tcp_stream(s.socket_.share())), write(tcp_stream(std::move(s))) {}

tcp_stream reunite(owned_read_half read, owned_write_half write) {
    if (!read.stream_ || !read.stream_.socket_.same(write.stream_.socket_))
        throw std::invalid_argument("reunite: these are not the halves of one stream");
    read.stream_ = tcp_stream();
    return std::move(write.stream_);
}

} // namespace magpie::io
