#include <magpie/io/serve.hpp>

#include <magpie/core/error.hpp>

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

} // namespace detail

rebalancing::rebalancing(double limit, std::size_t window) : limit_(limit), window_(window) {
    if (!(limit > 0)) // nor is what is no number
        magpie::detail::throw_usage_error("rebalancing: the limit is an imbalance above 0, 0.5 say");
    if (window < 16)
        magpie::detail::throw_usage_error("rebalancing: the window has 16 requests or more: fewer tell "
                                          "nothing of the load");
}

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
