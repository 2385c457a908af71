#include <magpie/io/serve.hpp>

#include <algorithm>
#include <unistd.h>

namespace magpie::io {

namespace detail {

passing_stream::~passing_stream() {
    if (fd_ != -1)
        ::close(fd_);
}

tcp_stream passing_stream::adopt() {
    tcp_stream s = tcp_stream::adopt(fd_); // throws: the descriptor is ours still
    fd_ = -1;
    return s;
}

std::size_t connection_counts::least() const noexcept {
    const auto found = std::min_element(
        counts_.begin(), counts_.end(), [](const auto& a, const auto& b) {
            return a.load(std::memory_order_relaxed) < b.load(std::memory_order_relaxed); // hints
        });
    return static_cast<std::size_t>(found - counts_.begin());
}

} // namespace detail

task<shard_listener> shard_listener::bind(endpoint at, accepting how, listen_options options) {
    shard_listener all(how, shard_count());
    options.reuse_port(options.reuse_port() || how == accepting::each_shard);
    for (std::size_t s = 0; s < all.listeners_.size(); ++s) {
        auto make = [&] { all.listeners_[s].emplace(tcp_listener::bind(at, options)); };
        if (how == accepting::each_shard)
            co_await submit_to(s, make);
        else
            make();                               // the caller's shard accepts
        at = all.listeners_[s]->local_endpoint(); // with the port that the system has chosen
    }
    all.at_ = at;
    co_return all;
}

} // namespace magpie::io
