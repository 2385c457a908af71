#include <magpie/io/tcp_connect.hpp>

#include "reactor.hpp"

#include <magpie/io/error.hpp>

#include <stdexcept>
#include <system_error>
#include <utility>

namespace magpie::io {

named_connect_operation::named_connect_operation(resolve_operation lookup, std::string name,
                                                 std::source_location where) noexcept
    : unstarted_(std::move(lookup)), name_(std::move(name)), where_(where) {}

named_connect_operation::named_connect_operation(named_connect_operation&& other) noexcept
    : operation<named_connect_operation>(static_cast<operation<named_connect_operation>&&>(other)),
      branch_owner(std::move(other)), unstarted_(std::move(other.unstarted_)),
      name_(std::move(other.name_)), where_(other.where_) {}

/// Runs a part that gives whether everything is over. What it throws is kept, and ends everything.
template <class F>
bool named_connect_operation::contained(F step) noexcept {
    try {
        return step();
    } catch (...) {
        exception_ = std::current_exception();
        return true;
    }
}

bool named_connect_operation::try_complete() noexcept {
    return contained([this] {
        lookup_.emplace(std::in_place, lookup_step(std::move(*unstarted_)));
        return lookup_->start(*this->where(), *this) && take_lookup();
    });
}

/// The lookup has ended.
bool named_connect_operation::take_lookup() {
    result<std::vector<endpoint>> found = lookup_->take();
    lookup_.reset();
    if (found.has_error()) {
        error_ = found.error();
        return true;
    }
    addresses_ = std::move(*found);
    return try_addresses();
}

/// Begins with the next address, and goes on until one waits (false) or everything is over.
bool named_connect_operation::try_addresses() {
    while (next_ != addresses_.size()) {
        const endpoint& peer = addresses_[next_++];
        connect_.emplace(std::in_place, connect_step(tcp_stream::connect(peer, where_)));
        if (!connect_->start(*this->where(), *this))
            return false;
        if (take_connection())
            return true;
    }
    return true;
}

/// An attempt has ended. True if nothing more is to be tried.
bool named_connect_operation::take_connection() {
    result<tcp_stream> made = connect_->take();
    connect_.reset();
    error_ = made.has_error() ? made.error() : boost::system::error_code();
    if (made.has_value())
        connection_ = std::move(*made);
    return !error_ || error_ == io_error::runtime_gone; // with that one the others fail as well
}

tcp_stream named_connect_operation::await_resume() {
    if (exception_ != nullptr)
        std::rethrow_exception(std::move(exception_));
    if (error_)
        throw std::system_error(error_, "connecting to \"" + name_ + "\"");
    return std::move(connection_);
}

result<tcp_stream> named_connect_operation::take_result() {
    if (exception_ != nullptr)
        std::rethrow_exception(std::move(exception_));
    if (error_)
        return {boost::system::in_place_error, error_};
    return {boost::system::in_place_value, std::move(connection_)};
}

std::exception_ptr named_connect_operation::discard() noexcept {
    std::exception_ptr error = lookup_ ? lookup_->discard() : connect_ ? connect_->discard() : nullptr;
    lookup_.reset();
    connect_.reset();
    return error;
}

std::coroutine_handle<> named_connect_operation::branch_ended(branch&) noexcept {
    const bool over = contained(
        [this] { return lookup_ ? take_lookup() : take_connection() || try_addresses(); });
    return over ? this->surface() : std::noop_coroutine();
}

std::coroutine_handle<> named_connect_operation::branch_gone(branch&) noexcept {
    return this->surface();
}

cancel_answer named_connect_operation::cancel() noexcept {
    return lookup_ ? lookup_->request_cancel() : connect_->request_cancel();
}

named_connect_operation tcp_stream::connect(std::string_view host, std::uint16_t port,
                                            std::source_location where) {
    static_cast<void>(detail::reactor::current("tcp_stream::connect", where)); // misuse shows here
    return named_connect_operation(resolve(host, port, where),
                                   std::string(host) + ":" + std::to_string(port), where);
}

named_connect_operation tcp_stream::connect(std::string_view host_and_port,
                                            std::source_location where) {
    static_cast<void>(detail::reactor::current("tcp_stream::connect", where));
    return named_connect_operation(resolve(host_and_port, where), std::string(host_and_port), where);
}

} // namespace magpie::io
