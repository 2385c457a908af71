#pragma once

#include <magpie/core/detail/composite.hpp>

#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

/// Of a case without a handler: its value is the result.
struct no_handler {};

/// What `select` is given: an awaitable (or a reference to one), whether it takes part, and what is
/// done with its value.
template <class Awaitable, class Handler>
class [[nodiscard("pass it to select")]] select_case {
public:
    using awaitable_type = Awaitable;
    using handler_type = Handler;

    select_case(bool on, Awaitable&& a, Handler&& h)
        : enabled(on), awaitable(std::forward<Awaitable>(a)), handler(std::move(h)) {}

    bool enabled;
    Awaitable awaitable;
    Handler handler;
};

/// What is done if no case takes part.
template <class Handler>
class [[nodiscard("pass it to select")]] otherwise_case {
public:
    using handler_type = Handler;

    explicit otherwise_case(Handler&& h) : handler(std::move(h)) {}
    Handler handler;
};

template <class T>
struct is_select_case : std::false_type {};
template <class A, class H>
struct is_select_case<select_case<A, H>> : std::true_type {};

template <class T>
struct is_otherwise : std::false_type {};
template <class H>
struct is_otherwise<otherwise_case<H>> : std::true_type {};

/// A case that its user has made.
template <class A>
A&& passed_case(A&& a) {
    static_assert(!std::is_lvalue_reference_v<A>, "pass the case as an rvalue: std::move(case)");
    return std::forward<A>(a);
}

/// A case of what may be one already.
template <class A>
auto make_case(A&& a) {
    if constexpr (is_select_case<std::remove_cvref_t<A>>::value) {
        return passed_case(std::forward<A>(a));
    } else {
        return select_case<A, no_handler>(true, std::forward<A>(a), no_handler());
    }
}

/// The same for an argument of the select itself: it stays where it is.
template <class A>
decltype(auto) case_here(A&& a) {
    if constexpr (is_select_case<std::remove_cvref_t<A>>::value)
        return passed_case(std::forward<A>(a));
    else
        return select_case<A&&, no_handler>(true, std::forward<A>(a), no_handler());
}

} // namespace detail

/// A case of a `select` that takes part only if `condition` holds. Otherwise it is never started,
/// and is destroyed with the `select`. (It is evaluated all the same: C++ evaluates arguments.)
template <class Awaitable>
auto when(bool condition, Awaitable&& awaitable) {
    auto made = detail::make_case(std::forward<Awaitable>(awaitable));
    made.enabled = made.enabled && condition;
    return made;
}

/// A case of a `select` with what is done if it wins: `handler(value)`, or `handler()` for void.
///
/// The handler runs when the losers are gone, so it may use what they used. The handlers of a
/// `select` give one type, which is what the `select` gives. One that has to wait is a coroutine:
/// the `select` then gives a task, to be awaited.
template <class Awaitable, class Handler>
auto on(Awaitable&& awaitable, Handler handler) {
    auto made = detail::make_case(std::forward<Awaitable>(awaitable));
    using inner = decltype(made);
    static_assert(std::is_same_v<typename inner::handler_type, detail::no_handler>,
                  "a case of a select has one handler");
    using awaited = typename inner::awaitable_type;
    return detail::select_case<awaited, Handler>(made.enabled, std::forward<awaited>(made.awaitable),
                                                 std::move(handler));
}

/// The last argument of a `select`: what it gives if no case takes part, `handler()`.
template <class Handler>
auto otherwise(Handler handler) {
    return detail::otherwise_case<Handler>(std::move(handler));
}

} // namespace magpie
