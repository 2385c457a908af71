#pragma once

#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/error.hpp>

#include <coroutine>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::detail {

/// A `T` that may not be there, as `timeout` gives it: void as a bool.
template <class T>
struct timeout_value {
    using type = std::optional<T>;
};
template <>
struct timeout_value<void> {
    using type = bool;
};
template <class T>
struct timeout_value<T&> {
    using type = std::optional<std::reference_wrapper<T>>;
};

/// A body raced against one lone leaf that ends it: a biased select of two branches, the leaf not
/// started when the body is ready at once. `Derived` has `static errc::errc_t lost`, the error that
/// `as_result` gives if the leaf has won, and may have an `is_lost_already()` of its own: then the
/// body does not start.
template <class Derived, class Body, class Limit>
class race_operation
    : public composite_operation<Derived, branch_tuple<Body, operation_branch<Limit>>> {
    using base = composite_operation<Derived, branch_tuple<Body, operation_branch<Limit>>>;
    using body_value = typename Body::value_type;

public:
    using value_type = typename timeout_value<body_value>::type;
    static constexpr cancel_safety safety = Body::safety;

    bool try_complete() noexcept {
        return !this->begin() || static_cast<const Derived&>(*this).is_lost_already() ||
               body().start(*this->where(), *this);
    }

    bool publish() noexcept {
        // The body has started and waits; now the other, which may have ended already.
        return !limit().start(*this->where(), *this) || !this->cancel_running();
    }

    /// The body's value, or nothing if the other has won.
    value_type await_resume() {
        const bool won = settle();
        if constexpr (std::is_void_v<body_value>) {
            if (won)
                body().take();
            return won;
        } else {
            return won ? value_type(body().take()) : value_type();
        }
    }

    /// The same for `as_result`.
    auto take_result() {
        using taken = result<body_value>;
        if (!settle())
            return taken(boost::system::in_place_error, errc::make_error_code(Derived::lost));
        if constexpr (std::is_void_v<body_value>) {
            body().take();
            return taken(boost::system::in_place_value);
        } else {
            return taken(boost::system::in_place_value, body().take());
        }
    }

    bool is_lost_already() const noexcept { return false; }

protected:
    template <class MakeBody, class MakeLimit>
    race_operation(MakeBody& body, MakeLimit& limit) : base(std::in_place, body, limit) {}
    race_operation(race_operation&&) = default;
    ~race_operation() = default;

    Body& body() noexcept { return this->branches_.template get<0>(); }
    operation_branch<Limit>& limit() noexcept { return this->branches_.template get<1>(); }

private:
    /// Destroys the loser. Whether the body has won.
    bool settle() {
        this->check();
        if (body().has_ended()) {
            limit().discard();
            return true;
        }
        if (std::exception_ptr error = body().discard())
            std::rethrow_exception(std::move(error));
        limit().take(); // throws where the leaf could not be awaited
        return false;
    }

    std::coroutine_handle<> branch_ended(branch&) noexcept override {
        return this->cancel_running() ? this->surface() : std::noop_coroutine();
    }
};

} // namespace magpie::detail
