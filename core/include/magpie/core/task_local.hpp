#pragma once

#include <magpie/core/detail/bound_branch.hpp>
#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/detail/context.hpp>
#include <magpie/core/error.hpp>

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie {

/// Who sees the value of a task-local besides the awaitable that was given to `with`.
enum class inherit : unsigned char {
    never,    ///< nobody
    by_spawn, ///< what is spawned below it, too, for as long as that lives
};

namespace detail {

/// A value and the context in which it is in force. Stands in the frame of who awaits.
template <class T, inherit Policy>
class bound_value {
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "the value moves with the operation until that is awaited: keep one whose move may "
                  "throw behind a std::unique_ptr or std::shared_ptr");

public:
    bound_value(const void* key, T&& value) noexcept : value_(std::move(value)) { local_.key = key; }

    /// Puts the value in force below what is in force where the caller runs.
    const task_context& enter() noexcept {
        context_ = derive_context();
        local_.outer = std::exchange(context_.locals, &local_);
        local_.value = value_ ? std::addressof(*value_) : nullptr;
        return context_;
    }

    std::optional<T> take() noexcept {
        local_.value = nullptr;
        return std::exchange(value_, std::nullopt);
    }

private:
    std::optional<T> value_;
    bound_local local_;
    task_context context_;
};

template <class T>
class bound_value<T, inherit::by_spawn> {
public:
    bound_value(const void* key, T&& value)
        : key_(key), value_(std::make_shared<const T>(std::move(value))) {}

    const task_context& enter() {
        context_ = derive_context();
        context_.inherited = inherited_values::add(context_.inherited.get(), key_, std::move(value_));
        return context_;
    }

private:
    const void* key_;
    std::shared_ptr<const void> value_;
    task_context context_;
};

} // namespace detail

/// An awaitable below which a task-local has a value. @see task_local
template <class T, inherit Policy, class Body>
class [[nodiscard("co_await it")]] with_value_operation
    : private detail::bound_value<T, Policy>, // first: it outlives the branch
      public detail::composite_operation<with_value_operation<T, Policy, Body>,
                                         detail::branch_tuple<Body>> {
    using bound = detail::bound_value<T, Policy>;
    using base = detail::composite_operation<with_value_operation, detail::branch_tuple<Body>>;

public:
    using value_type = typename Body::value_type;
    static constexpr cancel_safety safety = Body::safety;

    template <class MakeBody>
    with_value_operation(const void* key, T&& value, MakeBody make)
        : bound(key, std::move(value)), base(std::in_place, make) {}

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        started_ = true;
        try {
            body().bind(this->enter());
        } catch (...) { // no memory to hand the value on: the body does not start
            failure_ = std::current_exception();
            return true;
        }
        return body().start(*this->where(), *this);
    }

    value_type await_resume() {
        this->check();
        if (failure_ != nullptr) [[unlikely]]
            std::rethrow_exception(std::move(failure_));
        return body().take();
    }

    /// Takes the value back: before the wait, and nothing below sees one then; or after it. Nothing, if
    /// it was taken before.
    ///
    /// @throws std::logic_error while the awaitable runs
    std::optional<T> take_value()
        requires(Policy == inherit::never)
    {
        if (started_ && !body().has_ended())
            detail::throw_usage_error("the value of this task_local is in use: take it back before "
                                      "its scope is awaited, or after that");
        return this->take();
    }

private:
    Body& body() noexcept { return this->branches_.template get<0>(); }

    std::coroutine_handle<> branch_ended(branch&) noexcept override { return this->surface(); }

    std::exception_ptr failure_;
    bool started_ = false;
};

/// A key under which a task carries a value: a request's id, who asks, where to log.
///
/// `co_await key.with(value, aw)` awaits `aw` with the value in force: everything that runs in `aw`
/// sees it by `get`, down to plain functions and destructors, on whatever thread: also when `aw` is
/// dropped. What runs beside `aw` does not see it, nor does who awaits. Below another `with` of the
/// key, that one's value hides this one.
///
/// What `aw` spawns sees the value if the key says `inherit::by_spawn`, until it ends, which may be
/// later than `with`; then all share the one value, on several threads at a time, and it is destroyed
/// when the last of them is. A `spawn_blocking` closure counts as spawned, a `block_in_place` closure
/// as part of its task. Forked children are parts of their task and see all values, in parallel.
///
/// The value cannot be changed, only hidden. One that is to change is a pointer, to something that
/// may be used by all who see it.
///
/// A key is an object that outlives its use, usually static; each is a key of its own.
///
/// @tparam T  the value; moving it must not throw unless it is inherited
/// @par Thread safety
/// Every member may be called concurrently.
/// @par Example
/// @code
/// constinit const magpie::task_local<std::string, magpie::inherit::by_spawn> request_id;
///
/// magpie::task<> serve(request r) {
///     co_await request_id.with(r.id, handle(std::move(r)));
/// }
/// void log(std::string_view text) { // a plain function, anywhere below
///     const std::string* id = request_id.try_get();
///     std::clog << (id != nullptr ? *id : "-") << ' ' << text << '\n';
/// }
/// @endcode
template <class T, inherit Policy = inherit::never>
class task_local {
public:
    using value_type = T;
    static constexpr inherit policy = Policy;

    constexpr task_local() noexcept = default;
    task_local(const task_local&) = delete;
    task_local& operator=(const task_local&) = delete;

    /// Awaits `awaitable`, below which the key has the value. Gives what `awaitable` gives.
    ///
    /// The value lives as long as the operation: kept as a variable, it can be taken back by
    /// `take_value()` behind the await (not if it is inherited).
    ///
    /// @throws what the awaitable throws; std::bad_alloc if the value is inherited
    /// @par Cancellation
    /// As safe as the awaitable.
    /// @par Complexity
    /// No allocation; three if the value is inherited.
    template <class Awaitable>
    auto with(T value, Awaitable&& awaitable) const {
        using body = detail::bound_branch_for<Awaitable>;
        return with_value_operation<T, Policy, body>(
            this, std::move(value),
            detail::branch_maker<detail::bound_branch>(std::forward<Awaitable>(awaitable)));
    }

    /// The value in force where the caller runs. The reference is good until the `with` returns; in a
    /// task that has inherited it, until that task has ended.
    ///
    /// @throws std::logic_error if there is none
    /// @par Complexity
    /// Linear in the number of values in force.
    const T& get() const {
        if (const T* const value = try_get())
            return *value;
        detail::throw_usage_error("this task_local has no value here: read it in what is awaited by "
                                  "co_await key.with(value, ...); declare it with inherit::by_spawn if "
                                  "spawned tasks are to see it; or ask with try_get()");
    }

    /// The same, null if there is none: outside of a `with`, in a task that has not inherited it, on a
    /// thread that runs no task, or when it was taken back.
    const T* try_get() const noexcept {
        const detail::task_context* const c = detail::current_context();
        if (c == nullptr)
            return nullptr;
        if constexpr (Policy == inherit::by_spawn)
            return c->inherited != nullptr ? static_cast<const T*>(c->inherited->find(this)) : nullptr;
        else
            return static_cast<const T*>(c->find_local(this));
    }
};

} // namespace magpie
