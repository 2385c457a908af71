#include <magpie/io/resolve.hpp>

#include <magpie/io/detail/lookup.hpp>
#include <magpie/io/error.hpp>

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/scheduler/blocking.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <netdb.h>
#include <new>
#include <optional>
#include <stdexcept>
#include <sys/socket.h>
#include <system_error>
#include <utility>

namespace magpie::io {

static_assert(static_cast<int>(resolve_error::host_not_found) == EAI_NONAME &&
              static_cast<int>(resolve_error::try_again) == EAI_AGAIN &&
              static_cast<int>(resolve_error::no_recovery) == EAI_FAIL &&
              static_cast<int>(resolve_error::no_address) == EAI_NODATA &&
              static_cast<int>(resolve_error::service_not_found) == EAI_SERVICE);

namespace {

class category final : public boost::system::error_category {
public:
    const char* name() const noexcept override { return "getaddrinfo"; }
    std::string message(int code) const override { return ::gai_strerror(code); }
};

/// Only digits: a port or nothing.
bool is_number(std::string_view text) noexcept {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<std::uint16_t> port_of(std::string_view text) noexcept {
    std::uint16_t n = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, n);
    if (error != std::errc() || stop != end)
        return std::nullopt;
    return n;
}

void check_text(std::string_view text, const char* what) {
    if (text.empty())
        throw std::invalid_argument(std::string("resolve: the ") + what + " is empty");
    if (text.find('\0') != std::string_view::npos)
        throw std::invalid_argument(std::string("resolve: the ") + what + " has a zero byte in it");
}

struct free_addresses {
    void operator()(addrinfo* list) const noexcept { ::freeaddrinfo(list); }
};

} // namespace

const boost::system::error_category& resolve_category() noexcept {
    static const category the;
    return the;
}

// --- the lookup ---

namespace detail {

namespace {

// Relaxed: whoever sets it has to see to it that nothing is looked up meanwhile.
magpie::detail::atomic<lookup_function> current_lookup{&system_lookup};

} // namespace

lookup_function set_lookup_function(lookup_function f) noexcept {
    return current_lookup.exchange(f, std::memory_order_relaxed);
}

result<std::vector<endpoint>> system_lookup(const std::string& host, const std::string& service) {
    addrinfo wanted{};
    wanted.ai_family = AF_UNSPEC;
    wanted.ai_flags = is_number(service) ? AI_NUMERICSERV : 0;
    addrinfo* found = nullptr;
    int error = 0;
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) { // a type, or each address comes three times
        wanted.ai_socktype = type;
        error = ::getaddrinfo(host.c_str(), service.c_str(), &wanted, &found);
        if (error != EAI_SERVICE)
            break;
    }
    if (error == EAI_SYSTEM)
        return {boost::system::in_place_error, errno, boost::system::system_category()};
    if (error == EAI_MEMORY)
        return {boost::system::in_place_error, errc::make_error_code(errc::not_enough_memory)};
    if (error != 0)
        return {boost::system::in_place_error, error, resolve_category()};
    const std::unique_ptr<addrinfo, free_addresses> owner(found);
    std::vector<endpoint> all;
    for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) ||
            a->ai_addrlen > endpoint::native_capacity)
            continue;
        endpoint e;
        std::memcpy(e.native(), a->ai_addr, a->ai_addrlen);
        if (std::find(all.begin(), all.end(), e) == all.end()) // files may name it twice
            all.push_back(e);
    }
    return {boost::system::in_place_value, std::move(all)};
}

/// A lookup on its way to a blocking thread, joined like a blocking call.
class lookup_cell final : public magpie::detail::result_cell<result<std::vector<endpoint>>>,
                          public magpie::detail::blocking_job {
public:
    lookup_cell(executor& e, std::string host, std::string service, std::source_location where)
        : result_cell(e, where), host_(std::move(host)), service_(std::move(service)) {
        id = magpie::detail::next_blocking_id(e);
    }

private:
    void run() noexcept override {
        const magpie::detail::blocking_turn here(*this);
        if (abort_requested())
            return;
        try {
            const auto look_up = current_lookup.load(std::memory_order_relaxed); // see there
            result_.emplace(look_up(host_, service_));
        } catch (...) {
            result_.fail(std::current_exception());
        }
    }
    void finish() noexcept override { complete(); }
    void refuse() noexcept override { complete(); }
    std::string describe() const override {
        return "lookup " + std::to_string(id) + " of the name \"" + host_ + "\", started at " +
               where().file_name() + ":" + std::to_string(where().line());
    }
    void request_abort() noexcept override {} // it has no turn to wake; run() looks at the flag

    const std::string host_;
    const std::string service_;
};

} // namespace detail

// --- the operation ---

resolve_operation::resolve_operation(resolve_operation&& other) noexcept
    : operation<resolve_operation>(static_cast<operation<resolve_operation>&&>(other)),
      known_(std::move(other.known_)), host_(std::move(other.host_)),
      service_(std::move(other.service_)), where_(other.where_),
      cell_(std::exchange(other.cell_, nullptr)), failure_(std::move(other.failure_)) {}

resolve_operation::~resolve_operation() {
    if (cell_ == nullptr)
        return;
    cell_->abort();  // one that has not begun need not
    cell_->detach(); // one that has, ends without us
}

bool resolve_operation::try_complete() noexcept {
    if (!known_.empty() || failure_ != nullptr)
        return true;
    if (cell_ == nullptr) {
        try {
            executor& here = this->where()->owner().where_it_runs();
            cell_ = new detail::lookup_cell(here, host_, service_, where_);
            here.run_blocking(*cell_);
        } catch (...) {
            failure_ = std::current_exception();
            if (cell_ != nullptr)
                cell_->complete(); // it never ran; our destructor frees it
            return true;
        }
    }
    return cell_->joined() != magpie::detail::cell::join_state::pending;
}

bool resolve_operation::publish() noexcept {
    return cell_->wait(*this) == magpie::detail::cell::join_state::pending;
}

cancel_answer resolve_operation::cancel() noexcept { return cell_->withdraw(*this); }

result<std::vector<endpoint>> resolve_operation::take_result() {
    if (failure_ != nullptr)
        std::rethrow_exception(failure_);
    if (cell_ == nullptr)
        return {boost::system::in_place_value, std::move(known_)};
    cell_->mark_taken();
    auto& found = cell_->result();
    if (found.empty()) // the runtime's end came first
        return {boost::system::in_place_error, make_error_code(io_error::runtime_gone)};
    auto addresses = found.take();
    if (addresses.has_value() && addresses->empty())
        return {boost::system::in_place_error, make_error_code(resolve_error::no_address)};
    return addresses;
}

std::vector<endpoint> resolve_operation::await_resume() {
    auto found = take_result();
    if (found.has_error())
        throw std::system_error(found.error(), "resolving \"" + host_ + "\"");
    return std::move(*found);
}

// --- what users call ---

resolve_operation resolve(std::string_view host, std::uint16_t port, std::source_location where) {
    return resolve(host, std::to_string(port), where);
}

resolve_operation resolve(std::string_view host, std::string_view service, std::source_location where) {
    check_text(host, "host");
    check_text(service, "service");
    if (is_number(service)) {
        const auto port = port_of(service);
        if (!port)
            throw std::invalid_argument("resolve: \"" + std::string(service) +
                                        "\" is no port: they go from 0 to 65535");
        if (const auto known = endpoint::parse(host, *port))
            return resolve_operation(*known);
    }
    if (host.front() == '[' && host.back() == ']') // as in addresses with a port
        host = host.substr(1, host.size() - 2);
    return resolve_operation(std::string(host), std::string(service), where);
}

resolve_operation resolve(std::string_view host_and_port, std::source_location where) {
    const std::size_t colon = host_and_port.rfind(':');
    const std::string_view host = host_and_port.substr(0, std::min(colon, host_and_port.size()));
    const bool bracketed = !host.empty() && host.front() == '[';
    if (colon == std::string_view::npos || (!bracketed && host.find(':') != std::string_view::npos))
        throw std::invalid_argument("resolve: \"" + std::string(host_and_port) +
                                    "\" is no host and port: write host:80 or [::1]:80");
    return resolve(host, host_and_port.substr(colon + 1), where);
}

} // namespace magpie::io
