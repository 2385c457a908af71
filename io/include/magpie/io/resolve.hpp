#pragma once

#include <magpie/io/endpoint.hpp>

#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>

#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace magpie::io {

/// Why a name could not be looked up: getaddrinfo's errors. Its EAI_SYSTEM comes as the errno that it
/// stands for, in the system's category.
enum class resolve_error : int {
    host_not_found = -2,    ///< nobody knows the name (EAI_NONAME)
    try_again = -3,         ///< the name server gives no answer now (EAI_AGAIN)
    no_recovery = -4,       ///< the name server refuses, or answers nonsense (EAI_FAIL)
    no_address = -5,        ///< the name is known, but has no address (EAI_NODATA)
    service_not_found = -8, ///< no such service in /etc/services (EAI_SERVICE)
};

const boost::system::error_category& resolve_category() noexcept;

inline boost::system::error_code make_error_code(resolve_error e) noexcept {
    return {static_cast<int>(e), resolve_category()};
}

namespace detail {
class lookup_cell;
} // namespace detail

/// The looking up of a name. @see resolve
class [[nodiscard("co_await it")]] resolve_operation : public operation<resolve_operation> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit resolve_operation(const endpoint& known) : known_{known} {}
    resolve_operation(std::string host, std::string service, std::source_location where) noexcept
        : host_(std::move(host)), service_(std::move(service)), where_(where) {}
    resolve_operation(resolve_operation&& other) noexcept; // it has not been awaited
    ~resolve_operation();

    bool try_complete() noexcept;
    bool publish() noexcept;

    std::vector<endpoint> await_resume();
    result<std::vector<endpoint>> take_result();

private:
    cancel_answer cancel() noexcept override;

    std::vector<endpoint> known_; // not empty: there is nothing to look up
    std::string host_;
    std::string service_;
    std::source_location where_;
    detail::lookup_cell* cell_ = nullptr; // once it has begun
    std::exception_ptr failure_;          // it could not begin
};

/// Gives the addresses of a host, in the order in which to try them: at least one.
///
/// Addresses ("1.2.3.4", "::1") with a port that is a number come back without a lookup. All else is
/// asked of the system (getaddrinfo: files, name servers) on a thread for blocking calls, of which
/// `max_blocking_threads` run at a time; beyond that, lookups wait in order.
///
/// @param host     a name or an address
/// @param port     a port; `service` is one as text, or a name as in /etc/services ("https")
/// @throws std::system_error with a `resolve_error`, or one of the system's errors;
///         `io_error::runtime_gone` on a runtime that is shut down. std::invalid_argument for a host that is
///         empty or has a zero byte in it, and for a service that is a number and no port
/// @par Cancellation
/// Cancel-safe. A lookup that has begun cannot be stopped: dropped, it ends by itself, and what it
/// found is thrown away; one that has not begun never does. A runtime's end waits for those that run,
/// `shutdown_timeout` until its limit, and the report names them.
///
/// @par Example
/// @code
/// for (const auto& e : co_await magpie::io::resolve("example.org", 443))
///     std::cout << e.to_string() << '\n';
/// @endcode
resolve_operation resolve(std::string_view host, std::uint16_t port,
                          std::source_location where = std::source_location::current());
resolve_operation resolve(std::string_view host, std::string_view service,
                          std::source_location where = std::source_location::current());

/// The same with host and port or service in one: "example.org:443", "[::1]:https".
/// @throws std::invalid_argument for anything else
resolve_operation resolve(std::string_view host_and_port,
                          std::source_location where = std::source_location::current());

} // namespace magpie::io

template <>
struct boost::system::is_error_code_enum<magpie::io::resolve_error> : std::true_type {};
