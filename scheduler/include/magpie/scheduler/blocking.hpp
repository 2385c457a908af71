#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/scheduler/detail/blocking_job.hpp>

#include <concepts>
#include <functional>
#include <memory>
#include <source_location>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

/// Makes the thread look like the task's while the closure runs: its id, and that it may block.
class blocking_turn {
public:
    explicit blocking_turn(cell& c) noexcept;
    blocking_turn(const blocking_turn&) = delete;
    blocking_turn& operator=(const blocking_turn&) = delete;
    ~blocking_turn();

private:
    strand* outer_turn_;
    const branch* outer_running_;
    strand* outer_may_block_;
};

template <class F>
struct blocking_result {
    using type = std::invoke_result_t<F&>;
};
template <class F>
    requires std::invocable<F&, std::stop_token>
struct blocking_result<F> {
    using type = std::invoke_result_t<F&, std::stop_token>;
};

/// A closure on its way to a blocking thread, with the cell by which it is joined.
template <class F, class T>
class blocking_cell final : public result_cell<T>, public blocking_job {
public:
    template <class G>
    blocking_cell(executor& e, G&& f, std::source_location where)
        : result_cell<T>(e, where), f_(std::make_unique<F>(std::forward<G>(f))) {}

private:
    static constexpr bool takes_token = std::invocable<F&, std::stop_token>;

    void run() noexcept override {
        const blocking_turn here(*this);
        if (!this->abort_requested()) {
            try {
                if constexpr (takes_token)
                    keep([&]() -> T { return std::invoke(*f_, stop_.get_token()); });
                else
                    keep([&]() -> T { return std::invoke(*f_); });
            } catch (...) {
                this->result_.fail(std::current_exception());
            }
        }
        destroy_closure();
    }
    void finish() noexcept override { this->complete(); }
    void refuse() noexcept override {
        {
            const blocking_turn here(*this);
            destroy_closure();
        }
        this->complete();
    }
    std::string describe() const override { return describe_blocking(*this); }

    template <class Call>
    void keep(Call&& call) {
        if constexpr (std::is_void_v<T>) {
            call();
            this->result_.emplace();
        } else if constexpr (std::is_reference_v<T>) {
            this->result_.emplace(std::addressof(call()));
        } else {
            this->result_.emplace(call());
        }
    }
    void destroy_closure() noexcept { // before anybody is told that it has ended
        try {
            f_.reset();
        } catch (...) {
            this->result_.fail(std::current_exception());
        }
    }

    /// Before it starts: it will not. Afterwards: its stop token says so.
    void request_abort() noexcept override {
        if constexpr (takes_token)
            stop_.request_stop();
    }

    struct no_stop {};
    std::unique_ptr<F> f_;
    [[no_unique_address]] std::conditional_t<takes_token, std::stop_source, no_stop> stop_;
};

template <class F>
auto submit_blocking(executor& e, F&& f, std::source_location where) {
    using closure = std::decay_t<F>;
    using value = typename blocking_result<closure>::type;
    auto* const c = new blocking_cell<closure, value>(e, std::forward<F>(f), where);
    c->id = next_blocking_id(e);
    join_handle<value> handle(*c);
    try {
        e.run_blocking(*c);
    } catch (...) {
        c->complete(); // it never ran; the handle frees it
        throw;
    }
    return handle;
}

} // namespace detail

/// Runs `f` on a thread for blocking calls: files, other people's locks, long computations.
///
/// At most `max_blocking_threads` run at once; what is beyond that waits in order. `f` may take a
/// `std::stop_token`: `abort()` on the handle asks it to stop. An abort before it starts means that
/// it never does; without a token, one that runs cannot be stopped. Dropping the handle lets it run.
///
/// @return the handle; its value is what `f` returns, its exception what `f` throws
/// @throws std::logic_error outside of a runtime; std::bad_alloc; std::system_error if there is no thread for
///         such calls and none can be made (if there is one, `f` waits for that)
/// @par Thread safety
/// From a task, or from a thread that has entered a runtime.
template <class F>
auto spawn_blocking(F&& f, std::source_location where = std::source_location::current()) {
    return detail::submit_blocking(detail::current_executor(where), std::forward<F>(f), where);
}

namespace detail {

/// While it lives the worker of this thread runs on another one.
class [[nodiscard]] blocking_section {
public:
    blocking_section();
    blocking_section(const blocking_section&) = delete;
    blocking_section& operator=(const blocking_section&) = delete;
    ~blocking_section();

private:
    strand* outer_may_block_;
};

} // namespace detail

/// Runs `f`, which may block, right here: the worker with all its tasks goes to another thread
/// first. Outside of a worker it just runs `f`. The task that calls it goes on afterwards, and may
/// go on elsewhere after its next suspension.
///
/// @throws what `f` throws; std::logic_error on a current_thread runtime, which has no other thread
template <class F>
decltype(auto) block_in_place(F&& f) {
    const detail::blocking_section here;
    return std::invoke(std::forward<F>(f));
}

} // namespace magpie
