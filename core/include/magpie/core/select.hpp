#pragma once

#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/select_case.hpp>

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace magpie {

/// What a `select` gives: which branch has won, and its value (`std::monostate` for void, a
/// `std::reference_wrapper` for a reference). `otherwise` counts as one more branch, the last.
template <class... Ts>
class selected {
public:
    template <std::size_t I, class Value>
    explicit selected(std::in_place_index_t<I> which, Value&& value)
        : value_(which, std::forward<Value>(value)) {}

    /// The place of the winner among the arguments, from 0.
    std::size_t index() const noexcept { return value_.index(); }

    /// The value of branch `I`. @throws std::logic_error if another one has won
    template <std::size_t I>
    auto& get() & {
        check(I);
        return *std::get_if<I>(&value_);
    }
    template <std::size_t I>
    const auto& get() const& {
        check(I);
        return *std::get_if<I>(&value_);
    }
    template <std::size_t I>
    auto get() && {
        check(I);
        return std::move(*std::get_if<I>(&value_));
    }

    /// Calls `f` with the value of the winner, whichever it is.
    template <class F>
    decltype(auto) visit(F&& f) & {
        return std::visit(std::forward<F>(f), value_);
    }
    template <class F>
    decltype(auto) visit(F&& f) && {
        return std::visit(std::forward<F>(f), std::move(value_));
    }

private:
    void check(std::size_t wanted) const {
        if (value_.index() != wanted) [[unlikely]]
            detail::throw_usage_error("another branch of this select has won: look at index() before "
                                      "get<I>(), or use visit(), or handlers: select(on(a, f), ...)");
    }

    std::variant<Ts...> value_;
};

namespace detail {

enum class select_order : unsigned char { fair, biased };

/// What a case gives to the result of a select.
template <class Handler, class Value>
struct handled {
    using type = std::invoke_result_t<Handler&, Value>;
};
template <class Handler>
struct handled<Handler, void> {
    using type = std::invoke_result_t<Handler&>;
};
template <class Value>
struct handled<no_handler, Value> {
    using type = composite_value_t<Value>;
};
template <>
struct handled<no_handler, void> {
    using type = std::monostate;
};

template <class... Handlers>
inline constexpr bool all_handled = (!std::is_same_v<Handlers, no_handler> && ...);
template <class... Handlers>
inline constexpr bool none_handled = (std::is_same_v<Handlers, no_handler> && ...);

/// Where there is no `otherwise`.
struct no_otherwise {};

template <class First, class...>
struct first_of {
    using type = First;
};

/// What a select gives. `Results` are those of its branches and, if there is one, of `otherwise`.
template <bool Handled, class... Results>
struct select_value {
    using type = selected<composite_value_t<Results>...>;
};
template <class... Results>
struct select_value<true, Results...> {
    using type = typename first_of<Results...>::type;
    static_assert((std::is_same_v<Results, type> && ...),
                  "the handlers of a select give one type: name it, as in [](int n) -> double {...}");
};

template <class Otherwise, bool Handled, class... Results>
struct select_value_with {
    using type = typename select_value<Handled, Results..., std::invoke_result_t<Otherwise&>>::type;
};
template <bool Handled, class... Results>
struct select_value_with<no_otherwise, Handled, Results...> {
    using type = typename select_value<Handled, Results...>::type;
};

} // namespace detail

/// The race of several branches. @see select
template <detail::select_order Order, class Otherwise, class Handlers, class... Branches>
class select_operation;

template <detail::select_order Order, class Otherwise, class... Handlers, class... Branches>
class [[nodiscard(
    "co_await it")]] select_operation<Order, Otherwise, std::tuple<Handlers...>, Branches...>
    : public detail::composite_operation<
          select_operation<Order, Otherwise, std::tuple<Handlers...>, Branches...>,
          detail::branch_tuple<Branches...>> {
    using branches = detail::branch_tuple<Branches...>;
    using base = detail::composite_operation<select_operation, branches>;
    static constexpr std::size_t count = sizeof...(Branches);
    static constexpr bool has_otherwise = !std::is_same_v<Otherwise, detail::no_otherwise>;
    // A select with nothing but `otherwise` gives what that gives.
    static constexpr bool handled = detail::all_handled<Handlers...>;
    static_assert(handled || detail::none_handled<Handlers...>,
                  "either each case of a select has a handler, on(awaitable, f), or none has");

public:
    using value_type = typename detail::select_value_with<
        Otherwise, handled,
        typename detail::handled<Handlers, typename Branches::value_type>::type...>::type;
    static constexpr cancel_safety safety = branches::safety;
    static_assert(safety != cancel_safety::lossy,
                  "a branch of this select loses a part of its effect when it is dropped half-way: "
                  "let a pinned or a spawned task do it and select on that, or, if what is lost does "
                  "not matter, wrap it: may_lose(operation)");

    /// Each of `make` gives a branch.
    template <class... Make>
    select_operation(std::array<bool, count> enabled, std::tuple<Handlers...>&& handlers,
                     Otherwise&& otherwise, Make... make)
        : base(std::in_place, make...), enabled_(enabled), handlers_(std::move(handlers)),
          otherwise_(std::move(otherwise)) {}

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        start(std::index_sequence_for<Branches...>());
        if (winner_ != nobody)
            return this->cancel_running();
        return !any_enabled();
    }

    value_type await_resume() {
        this->check();
        if constexpr (count > 0) {
            if (winner_ != nobody) {
                drop_losers();
                return take<0>();
            }
        }
        return nobody_took_part();
    }

private:
    static constexpr std::size_t nobody = count;

    bool any_enabled() const noexcept {
        for (const bool e : enabled_)
            if (e)
                return true;
        return false;
    }

    /// Starts the branches, from one of them round to it again, up to one that wins at once.
    template <std::size_t... I>
    void start(std::index_sequence<I...>) noexcept {
        std::size_t first = 0;
        if constexpr (Order == detail::select_order::fair && count > 1)
            first = detail::random_below(static_cast<std::uint32_t>(count));
        static_cast<void>(((I >= first && start_one<I>()) || ...) ||
                          ((I < first && start_one<I>()) || ...));
    }
    template <std::size_t I>
    bool start_one() noexcept {
        if (!enabled_[I] || !this->branches_.template get<I>().start(*this->where(), *this))
            return false;
        winner_ = I;
        return true;
    }

    std::coroutine_handle<> branch_ended(branch& b) noexcept override {
        std::size_t i = 0;
        this->branches_.any([&](auto& mine) {
            const bool found = static_cast<branch*>(&mine) == &b;
            i += found ? 0 : 1;
            return found;
        });
        winner_ = i;
        return this->cancel_running() ? this->surface() : std::noop_coroutine();
    }

    branch* winning_branch() noexcept {
        branch* found = nullptr;
        std::size_t i = 0;
        this->branches_.any([&](auto& mine) {
            found = &mine;
            return i++ == winner_;
        });
        return found;
    }

    /// If a loser's destructor throws, that is thrown, unless the winner has failed as well.
    void drop_losers() {
        if (std::exception_ptr error = this->discard_but(winning_branch())) [[unlikely]] {
            std::exception_ptr first;
            try {
                this->branches_.visit(*winning_branch(), [](auto& b) { static_cast<void>(b.take()); });
            } catch (...) {
                first = std::current_exception();
            }
            this->keep_first(first, std::move(error));
            std::rethrow_exception(std::move(first));
        }
    }

    template <std::size_t I>
    value_type take() {
        if constexpr (I + 1 < count)
            if (winner_ != I)
                return take<I + 1>();
        auto& b = this->branches_.template get<I>();
        if constexpr (!handled) {
            return value_type(std::in_place_index<I>, detail::take_value(b));
        } else if constexpr (std::is_void_v<decltype(b.take())>) {
            b.take();
            return std::get<I>(handlers_)();
        } else {
            return std::get<I>(handlers_)(b.take());
        }
    }

    value_type nobody_took_part() {
        if constexpr (!has_otherwise) {
            detail::throw_usage_error(
                "no branch of this select is enabled: add otherwise(f), or see to "
                "it that one is");
        } else if constexpr (handled) {
            return otherwise_();
        } else if constexpr (std::is_void_v<std::invoke_result_t<Otherwise&>>) {
            otherwise_();
            return value_type(std::in_place_index<count>, std::monostate());
        } else {
            return value_type(std::in_place_index<count>, otherwise_());
        }
    }

    std::size_t winner_ = nobody;
    std::array<bool, count> enabled_;
    [[no_unique_address]] std::tuple<Handlers...> handlers_;
    [[no_unique_address]] Otherwise otherwise_;
};

namespace detail {

template <select_order Order, class Otherwise, class... Cases>
auto make_select(Otherwise&& otherwise, Cases&&... cases) {
    using operation = select_operation<Order, Otherwise, std::tuple<typename Cases::handler_type...>,
                                       branch_for<typename Cases::awaitable_type>...>;
    return operation(std::array<bool, sizeof...(Cases)>{cases.enabled...},
                     std::tuple<typename Cases::handler_type...>(std::move(cases.handler)...),
                     std::move(otherwise),
                     branch_maker(std::forward<typename Cases::awaitable_type>(cases.awaitable))...);
}

template <class... Arguments>
using last_argument = std::tuple_element_t<sizeof...(Arguments) - 1, std::tuple<Arguments...>>;

/// Takes `otherwise` off the end.
template <select_order Order, class... Arguments>
auto select_of(Arguments&&... arguments) {
    static_assert(sizeof...(Arguments) > 0,
                  "a select over nothing would wait for ever: give it a case");
    if constexpr (is_otherwise<std::remove_cvref_t<last_argument<Arguments...>>>::value) {
        auto all = std::forward_as_tuple(std::forward<Arguments>(arguments)...);
        constexpr std::size_t cases = sizeof...(Arguments) - 1;
        return [&]<std::size_t... I>(std::index_sequence<I...>) {
            return make_select<Order>(
                std::move(std::get<cases>(all).handler),
                case_here(std::forward<std::tuple_element_t<I, std::tuple<Arguments&&...>>>(
                    std::get<I>(all)))...);
        }(std::make_index_sequence<cases>());
    } else {
        return make_select<Order>(no_otherwise(), case_here(std::forward<Arguments>(arguments))...);
    }
}

} // namespace detail

/// Awaits several awaitables at a time, inside one task, until the first of them ends.
///
/// Gives a `selected`: the `index()` of that branch, and its value. When this returns the others
/// have been dropped: their frames are destroyed, and nothing of them goes on. One that was ready at
/// the same time has lost as well, and has taken nothing: a value that it was handed goes to the next.
///
/// - `select(on(a, f), on(b, g))` gives what the handler of the winner gives. @see on
/// - `when(condition, a)`, alone or in `on`, takes part only if the condition holds. @see when
/// - `otherwise(f)`, as the last argument, is what happens if none takes part. @see otherwise
///
/// Which branch is started first is chosen at random, so that of branches that are always ready
/// each wins its share; a branch that is ready at its start keeps those behind it from starting.
/// The choice is reproducible on one thread: `runtime::builder().seed(n)`. `select_biased` starts
/// them in order.
///
/// A loser is dropped, so what may go on after a `select` is passed as an lvalue: a join handle, a
/// pinned task, a `timer`, a `notified()` or an `accept()`; of an `interval`, `tick()`. A coroutine is
/// passed as an rvalue, and is gone if it loses: to go on it is `pinned`, or spawned, and what stands
/// for it is selected on.
///
/// @throws what the winner throws, when the losers are gone; what a loser's destructor throws;
///         std::logic_error if no branch takes part and there is no `otherwise`, and if it was awaited
///         before
/// @par Cancellation
/// As safe as its branches. Operations that are `lossy` are refused when this is compiled; say
/// `may_lose(operation)` if you mean it. @see safety_of
/// @par Complexity
/// No allocation. O(branches).
/// @par Example
/// @code
/// auto r = co_await magpie::select(listener.accept(), stop.wait());
/// if (r.index() == 0)
///     serve(std::move(r).get<0>());
/// @endcode
template <class... Cases>
auto select(Cases&&... cases) {
    return detail::select_of<detail::select_order::fair>(std::forward<Cases>(cases)...);
}

/// The same, but the branches start in order: of several that are ready at once the first wins.
/// One that is always ready keeps the others from ever winning.
template <class... Cases>
auto select_biased(Cases&&... cases) {
    return detail::select_of<detail::select_order::biased>(std::forward<Cases>(cases)...);
}

} // namespace magpie
