#pragma once

#include <magpie/core/detail/fork.hpp>
#include <magpie/core/detail/join_results.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/join.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <limits>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie {

namespace detail {

template <class Operation>
class fork_awaiter {
public:
    explicit fork_awaiter(Operation& o) noexcept : operation_(o) {}

    bool await_ready() const noexcept { return operation_.is_empty(); }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> caller) noexcept {
        return operation_.fork(caller.promise());
    }
    [[gnu::always_inline]] decltype(auto) await_resume() { return operation_.join(); }

private:
    Operation& operation_;
};

} // namespace detail

/// Children that run in parallel, and the wait for them. @see fork_join
template <class Branches>
class [[nodiscard("co_await it")]] fork_join_operation
    : private detail::fail_fast_leaf<detail::fork_leaf, Branches> {
    using base = detail::fail_fast_leaf<detail::fork_leaf, Branches>;

public:
    using value_type = typename detail::join_results<Branches>::values;
    static constexpr cancel_safety safety = cancel_safety::unknown;

    template <class... Tasks>
    explicit fork_join_operation(std::in_place_t, Tasks&&... tasks) {
        hold_all(std::index_sequence_for<Tasks...>(), std::move(tasks)...);
    }
    template <class R, class Make>
    explicit fork_join_operation(detail::range_of_branches<R, Make>& tasks)
        : base(std::in_place, tasks) {}
    fork_join_operation(fork_join_operation&&) = default;
    [[gnu::always_inline]] ~fork_join_operation() = default;

    /// What `co_await` uses. @throws std::logic_error if it was awaited before
    detail::fork_awaiter<fork_join_operation> awaiter() && {
        if (std::exchange(begun_, true)) [[unlikely]]
            detail::throw_usage_error("this fork_join was awaited before: its children are gone; "
                                      "make a new one for each wait");
        return detail::fork_awaiter<fork_join_operation>(*this);
    }
    detail::fork_awaiter<fork_join_operation> awaiter() & = delete; // co_await std::move(operation)

private:
    using base::next_;
    using base::pending_;
    friend class detail::fork_awaiter<fork_join_operation>;

    template <std::size_t... I, class... Tasks>
    void hold_all(std::index_sequence<I...>, Tasks&&... tasks) {
        (this->branches_.template get<I>().run_later(std::move(tasks)), ...);
    }

    bool is_empty() noexcept {
        return !this->branches_.any([](auto&) { return true; });
    }

    [[gnu::noinline]] std::coroutine_handle<> fork(detail::promise_base& caller) noexcept {
        this->bind(caller);
        const branch& parent = *this->where();
        if (parent.owner().budget() == 0 && !parent.unconstrained) [[unlikely]] {
            this->retry_ = true;
            this->defer();
            return std::noop_coroutine();
        }
        const std::coroutine_handle<> first = start(parent);
        return first ? first : this->surface();
    }

    /// After it had to wait for budget.
    [[gnu::cold]] bool retry() noexcept override {
        const std::coroutine_handle<> first = start(*this->where());
        if (!first)
            return true;
        first.resume(); // *this may be gone afterwards
        return false;
    }

    /// Starts the children. Gives what is to be resumed; null if all have ended.
    [[gnu::always_inline]] std::coroutine_handle<> start(const branch& parent) noexcept {
        strand& owner = parent.owner();
        if (!parent.unconstrained)
            owner.take_budget();
        const std::size_t n = this->branches_.size();
        pending_ = n;
        if (n == 1) { // nothing to offer
            detail::fork_record* only = nullptr;
            this->branches_.any([&](detail::fork_record& r) {
                only = &r;
                return true;
            });
            only->place(detail::fork_record::above(parent), *this);
            return only->begin();
        }
        detail::fork_lane* const lane = detail::fork_lane::here(owner.where_it_runs());
        if (lane == nullptr || !lane->reserve(n)) [[unlikely]]
            return run_all(parent);
        const detail::fork_record::above here(parent);
        auto out = lane->write(n);
        detail::fork_record** link = &next_;
        this->branches_.any([&](detail::fork_record& r) {
            r.offer(here, *this);
            *std::exchange(link, &r.sibling) = &r;
            out.write(r);
            return false;
        });
        // The first is written like the others, so that the loop is plain, and stays out.
        detail::fork_record* const first = next_;
        next_ = first->sibling;
        lane->offer(out, n - 1);
        return first->begin();
    }

    /// Nobody could help: the children are branches from the start.
    std::coroutine_handle<> run_all(const branch& parent) noexcept {
        this->branches_.any([&](auto& r) {
            r.attach(parent, *this);
            if (r.run()) {
                --pending_;
                this->look_at(r);
            }
            return this->has_failed(); // nothing starts after a failure
        });
        const bool over = this->has_failed() ? cancel_children() : pending_ == 0;
        return over ? std::coroutine_handle<>() : std::noop_coroutine();
    }

    std::coroutine_handle<> branch_ended(branch& b) noexcept override {
        this->look_at(b);
        if (!this->has_failed())
            return this->child_ended();
        return cancel_children() ? this->surface() : std::noop_coroutine();
    }

    // How it is dropped: each level of a tree in a step of its own, on the way down and on the way up. So
    // trees may be as deep as they like: a drop uses no stack, as that of a chain of awaits (R13).

    cancel_answer cancel() noexcept override {
        if (!asked_) {
            next_ = nullptr;                                        // none begins any more,
            pending_ = std::numeric_limits<std::size_t>::max() / 2; // and none that ends is the last
        }
        if (!this->is_stepping())
            this->step_later();
        return cancel_answer::coming;
    }

    /// Asks all that run to end; `pending_` are from then on those that have still to surface. Whether
    /// there are none: then the frames stand until `join`.
    bool cancel_children() noexcept {
        asked_ = true;
        pending_ = 0;
        this->branches_.any([&](auto& b) {
            if (b.request_cancel() == cancel_answer::coming)
                ++pending_;
            return false;
        });
        // What is quiet does not stand until the others have come: it may hold what they wait for.
        if (pending_ > 0 && !this->is_stepping())
            this->step_later();
        return pending_ == 0 && !this->is_stepping();
    }

    std::coroutine_handle<> branch_gone(branch&) noexcept override {
        if (--pending_ == 0 && !this->is_stepping())
            this->step_later();
        return std::noop_coroutine();
    }

    std::coroutine_handle<> step() noexcept override {
        if (this->is_dropped()) {
            if (!asked_ && !cancel_children())
                return std::noop_coroutine(); // there is one more step
            if (std::exception_ptr error = this->discard())
                detail::leaf_access::note(*this->where(), std::move(error));
        } else {
            this->branches_.any([](auto& b) {
                b.clear();
                return false;
            });
        }
        return pending_ > 0 ? std::noop_coroutine() : this->surface();
    }

    [[gnu::always_inline]] value_type join() {
        using results = detail::join_results<Branches>;
        if (!this->has_failed()) [[likely]] {
            if constexpr (results::in_one_pass) {
                value_type taken;
                if (results::settle_and_take(this->branches_, taken)) [[likely]]
                    return taken;
            } else {
                bool settled = true;
                this->branches_.any([&](auto& b) {
                    settled &= b.settle();
                    return false;
                });
                if constexpr (results::nothrow)
                    if (settled) [[likely]]
                        return results::take_settled(this->branches_);
            }
        }
        return join_slowly();
    }
    [[gnu::noinline]] value_type join_slowly() {
        if (this->has_failed())
            std::rethrow_exception(this->take_failure());
        std::exception_ptr first; // of a destructor, or of a value's move
        auto keep = [&](std::exception_ptr error) noexcept {
            this->keep_first(first, std::move(error));
        };
        return detail::join_results<Branches>::take(this->branches_, first, keep);
    }

    bool asked_ = false; // the children were asked to end
    bool begun_ = false;
};

namespace detail {

/// Forked are tasks; anything else is awaited in one.
template <class A>
auto forked_task(A&& awaitable) {
    if constexpr (is_task<std::remove_cvref_t<A>>::value) {
        static_assert(!std::is_lvalue_reference_v<A>, "pass the task as an rvalue, std::move(task)");
        return std::move(awaitable);
    } else {
        return as_task<A>(std::forward<A>(awaitable));
    }
}

template <class A>
using forked_child = fork_child<typename decltype(forked_task(std::declval<A>()))::value_type>;

/// @throws std::logic_error if the calling thread runs no task
void check_fork_place();

} // namespace detail

/// Runs several tasks in parallel, and ends when all have ended: for computations.
///
/// `fork_join(a(), b(), ...)` gives a `std::tuple` of their values (`std::monostate` for void, a
/// `std::reference_wrapper` for a reference); `fork_join(range)` gives a `std::vector` of them in the
/// order of the range, nothing for a range of void; a range that is empty is ready at once. The
/// elements are moved out of a container that is passed as an rvalue. What is not a task is awaited in
/// one.
///
/// The children are offered to idle workers. The calling task runs the first one itself, and then those
/// that nobody has taken, in order; so work that nobody else wants costs little more than to await it.
/// A child that another worker takes runs there, at the same time: children share what they reach like
/// threads do. They may refer to the caller's locals, and they may wait for anything. They see the
/// caller's task id and name. Children of children work alike: without thieves the tree is walked depth
/// first, and only the frames from the root down to where it is exist, with their siblings.
///
/// If a child fails, the others are dropped, and when they are gone its exception is thrown; of several
/// failures the others are attached to it (`attached_failures()`) and reported as unhandled. On a runtime
/// of one worker, and on an executor without any, the children run one after the other.
///
/// @throws std::logic_error outside of a task, if a task is empty, or if it was awaited before; what the
///         children throw; std::bad_alloc
/// @par Cancellation
/// Nobody can say. Dropped, it drops every child, wherever it runs, and waits until they are gone.
/// @par Complexity
/// One unit of the turn's budget. No allocation but a range's children, in one block, and a cell of 256
/// bytes for a child that was taken. Two read-modify-writes for a child that another worker takes, one
/// for one that is taken back and that another could have taken. Where forks come less than a microsecond
/// apart on average, all but the oldest children are kept from others as long as these have something to
/// take; so there may pass one such computation, until the next fork or join, before they get more.
/// @par Example
/// @code
/// magpie::task<long> sum(std::span<const int> v) {
///     if (v.size() < 1000)
///         co_return std::accumulate(v.begin(), v.end(), 0L);
///     const auto half = v.size() / 2;
///     auto both = co_await magpie::fork_join(sum(v.first(half)), sum(v.subspan(half)));
///     co_return std::get<0>(both) + std::get<1>(both);
/// }
/// @endcode
template <class... Awaitables>
    requires(sizeof...(Awaitables) > 0)
[[gnu::always_inline]] inline auto fork_join(Awaitables&&... awaitables) {
    detail::check_fork_place();
    if constexpr (detail::one_range<Awaitables...>) {
        auto make = []<class A>(A&& a) { return detail::forked_task(std::forward<A>(a)); };
        detail::range_of_branches source(std::forward<Awaitables>(awaitables)..., make);
        using child = detail::fork_child<typename decltype(source)::made::value_type>;
        return fork_join_operation<detail::branch_list<child>>(source);
    } else {
        using children = detail::branch_tuple<detail::forked_child<Awaitables>...>;
        return fork_join_operation<children>(
            std::in_place, detail::forked_task(std::forward<Awaitables>(awaitables))...);
    }
}

} // namespace magpie
