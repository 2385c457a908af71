#pragma once

#include <magpie/core/error.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/task_cancelled.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/scheduler/detail/task_list.hpp>

#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::detail {

/// Gives a task's cell back when its result was moved out, or threw.
template <class Cell>
class ended_task {
public:
    explicit ended_task(Cell* c) noexcept : cell_(c) {}
    ended_task(const ended_task&) = delete;
    ended_task& operator=(const ended_task&) = delete;
    ~ended_task() {
        if (cell_ != nullptr)
            cell_->release();
    }

    explicit operator bool() const noexcept { return cell_ != nullptr; }
    Cell& cell() const noexcept { return *cell_; }

    /// The value, or its exception.
    decltype(auto) take() const {
        if (cell_->result().empty())
            throw task_cancelled(cell_->id);
        if (cell_->result().has_error()) [[unlikely]]
            cell_->pass_attached();
        return cell_->result().take();
    }

    /// The same without an exception.
    auto take_result() const {
        auto& r = cell_->result();
        using taken = task_result<decltype(r.take())>;
        if (r.empty())
            return taken(boost::system::in_place_error, task_cancelled_ptr());
        if (r.has_error()) {
            cell_->pass_attached();
            return taken(boost::system::in_place_error, r.take_error());
        }
        if constexpr (std::is_void_v<decltype(r.take())>)
            return taken(boost::system::in_place_value);
        else
            return taken(boost::system::in_place_value, r.take());
    }

private:
    Cell* cell_;
};

/// What the operations of sets, maps and queues do alike: they wait for the ends of tasks. `Derived` has
/// `bool look()`, which takes what it can, and says whether that is enough.
template <class Derived, class Set>
class set_operation : public operation<Derived> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    bool try_complete() noexcept {
        waits_ = false;
        return self().look();
    }
    bool publish() noexcept {
        this->retry_ = true; // to surface is to look again: another branch may have been faster
        for (;;) {
            switch (set_->wait(*this)) {
            case group_wait::waiting: waits_ = true; return true;
            case group_wait::occupied: occupied_ = true; break;
            case group_wait::ended:
                if (!self().look())
                    continue;
                break;
            }
            this->retry_ = false;
            return false;
        }
    }

protected:
    explicit set_operation(Set& set) noexcept : set_(&set) {}
    set_operation(set_operation&& other) noexcept
        : operation<Derived>(std::move(other)), set_(other.set_) {}
    ~set_operation() {
        if (waits_) // dropped: it may have been the one to see to the others
            set_->attend();
    }

    /// @throws std::logic_error if somebody else waits
    void check() {
        if (std::exchange(occupied_, false))
            throw_usage_error("somebody else waits for this set of tasks already: it has one waiter at "
                              "a time");
    }

    Set* set_;

private:
    Derived& self() noexcept { return static_cast<Derived&>(*this); }
    cancel_answer cancel() noexcept override { return set_->withdraw(*this); }

    bool waits_ = false;
    bool occupied_ = false;
};

/// Takes the next member that has ended.
template <class Derived, class Set, class Cell>
class next_member_operation : public set_operation<Derived, Set> {
public:
    explicit next_member_operation(Set& set) noexcept : set_operation<Derived, Set>(set) {}
    next_member_operation(next_member_operation&& other) noexcept
        : set_operation<Derived, Set>(std::move(other)),
          member_(std::exchange(other.member_, nullptr)) {}
    ~next_member_operation() {
        if (member_ != nullptr) // dropped in the moment between the wake and the end of the wait
            this->set_->put_back(*member_);
    }

    bool look() noexcept {
        if (member_ == nullptr) // else it was awaited before, and what it got was not asked for
            member_ = this->set_->pop();
        return member_ != nullptr || this->set_->is_drained();
    }

protected:
    ended_task<Cell> take_member() {
        this->check();
        if (member_ == nullptr) // a plain thread that was woken has not looked again
            look();
        return ended_task<Cell>(static_cast<Cell*>(std::exchange(member_, nullptr)));
    }

private:
    typename Set::member* member_ = nullptr;
};

/// What `join_next` of sets and queues gives: a `std::optional` of the value, `bool` for void.
template <class T, class Derived, class Set, class Cell>
class next_value_operation : public next_member_operation<Derived, Set, Cell> {
public:
    using value_type = typename timeout_value<T>::type;

    using next_member_operation<Derived, Set, Cell>::next_member_operation;

    value_type await_resume() {
        const auto ended = this->take_member();
        if (!ended)
            return value_type();
        if constexpr (std::is_void_v<T>) {
            ended.take();
            return true;
        } else {
            return value_type(ended.take());
        }
    }

    /// What `as_result` gives: nothing is thrown but misuse.
    std::optional<task_result<T>> take_result() {
        const auto ended = this->take_member();
        return ended ? std::optional<task_result<T>>(ended.take_result()) : std::nullopt;
    }
};

/// Aborts all tasks of a set and waits until they have ended.
template <class Set>
class [[nodiscard("co_await it")]] set_shutdown_operation
    : public set_operation<set_shutdown_operation<Set>, Set> {
public:
    explicit set_shutdown_operation(Set& set) noexcept
        : set_operation<set_shutdown_operation, Set>(set) {}
    set_shutdown_operation(set_shutdown_operation&&) noexcept = default;

    bool look() noexcept {
        if (!std::exchange(aborted_, true))
            this->set_->abort_all();
        while (auto* const m = this->set_->pop())
            this->set_->forget(*m);
        return this->set_->is_drained();
    }
    void await_resume() {
        this->check();
        look();
    }

private:
    bool aborted_ = false;
};

} // namespace magpie::detail
