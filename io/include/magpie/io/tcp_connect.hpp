#pragma once

#include <magpie/io/resolve.hpp>
#include <magpie/io/tcp_stream.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/detail/composite.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <vector>

namespace magpie::io {

/// The making of a connection to a host by its name: a lookup, and then one address after another.
/// @see tcp_stream::connect
class [[nodiscard("co_await it")]] named_connect_operation : public operation<named_connect_operation>,
                                                             private magpie::detail::branch_owner {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    named_connect_operation(resolve_operation lookup, std::string name,
                            std::source_location where) noexcept;
    named_connect_operation(named_connect_operation&& other) noexcept; // it has not been awaited

    bool try_complete() noexcept;
    bool publish() const noexcept { return true; } // the step waits

    tcp_stream await_resume();
    result<tcp_stream> take_result();

private:
    using lookup_step = magpie::detail::result_operation<resolve_operation>;
    using connect_step = magpie::detail::result_operation<connect_operation>;

    bool take_lookup();
    bool take_connection();
    bool try_addresses();
    template <class F>
    bool contained(F step) noexcept;

    std::coroutine_handle<> branch_ended(branch& b) noexcept override;
    std::coroutine_handle<> branch_gone(branch& b) noexcept override;
    cancel_answer cancel() noexcept override;
    std::exception_ptr discard() noexcept override;

    // One of the two at a time.
    std::optional<magpie::detail::operation_branch<lookup_step>> lookup_;
    std::optional<magpie::detail::operation_branch<connect_step>> connect_;
    std::optional<resolve_operation> unstarted_; // until it is awaited
    std::string name_;
    std::source_location where_;
    std::vector<endpoint> addresses_;
    std::size_t next_ = 0;
    tcp_stream connection_;
    boost::system::error_code error_; // of the last attempt
    std::exception_ptr exception_;
};

} // namespace magpie::io
