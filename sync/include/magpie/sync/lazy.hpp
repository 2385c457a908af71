#pragma once

#include <magpie/core/task.hpp>
#include <magpie/sync/once_cell.hpp>

#include <utility>

namespace magpie::sync {

/// A value together with how it is made: by the first who asks for it, while the others wait.
///
/// `F` gives the value, or a task or an operation of magpie's to be awaited for it. It is called again for
/// the next who asks if it throws, or is dropped with its task. @see once_cell
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor. It must outlive the tasks that are
/// inside.
///
/// @par Example
/// @code
/// magpie::sync::lazy settings([]() -> magpie::task<config> { co_return co_await load("app.toml"); });
///
/// magpie::task<> serve() {
///     const config& c = co_await settings.get();
///     co_await listen_on(c.port);
/// }
/// @endcode
template <class F>
class lazy {
public:
    using value_type = detail::initialised_t<F>;

    explicit lazy(F make) : make_(std::move(make)) {}

    /// Gives the value, and makes it if there is none. As `once_cell::get_or_init`.
    task<value_type&> get() { return cell_.get_or_init(std::ref(make_)); }

    /// The value, null if there is none yet. One load.
    value_type* try_get() noexcept { return cell_.get(); }
    const value_type* try_get() const noexcept { return cell_.get(); }

private:
    F make_;
    once_cell<value_type> cell_;
};

} // namespace magpie::sync
