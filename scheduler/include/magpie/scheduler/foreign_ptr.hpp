#pragma once

#include <magpie/core/task.hpp>
#include <magpie/scheduler/runtime.hpp>
#include <magpie/scheduler/shard.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

namespace magpie {

namespace detail {

/// Whether the calling thread runs tasks of that shard.
bool is_on_shard(const runtime_handle& rt, std::size_t shard) noexcept;

/// There is no memory for the task that would destroy an object on its own shard.
[[noreturn]] void fatal_without_way_home() noexcept;

} // namespace detail

/// Owns an object of a shard, wherever the pointer itself is: destroyed, it sends the object home, to be
/// destroyed there.
///
/// For what only its shard may touch, but another one keeps alive. What the holder may do with the object
/// meanwhile is up to its type: reading what nobody changes is always right, anything else goes home by
/// `submit_to(p.shard(), ...)`.
///
/// Whoever destroys the pointer does not wait. When the runtime has been shut down there is no shard any
/// more, and the object is destroyed where the pointer is. Without memory to send it home the program ends,
/// with a sentence in the log.
///
/// @par Thread safety
/// As `std::unique_ptr`.
/// @par Example
/// @code
/// auto open = [] { return magpie::foreign_ptr(std::make_unique<session>()); };
/// magpie::foreign_ptr<session> s = co_await magpie::submit_to(2, open);
/// // ... and whenever it goes, the session ends on shard 2
/// @endcode
template <class T>
class foreign_ptr {
public:
    foreign_ptr() noexcept = default;
    /// Of the calling shard. @throws std::logic_error outside of a runtime
    explicit foreign_ptr(std::unique_ptr<T> object)
        : object_(std::move(object)), home_(runtime_handle::current()), shard_(this_shard()) {}
    foreign_ptr(foreign_ptr&& other) noexcept = default;
    foreign_ptr& operator=(foreign_ptr&& other) noexcept {
        foreign_ptr old(std::move(*this));
        object_ = std::move(other.object_);
        home_ = std::move(other.home_);
        shard_ = other.shard_;
        return *this;
    }
    ~foreign_ptr() { reset(); }

    T* get() const noexcept { return object_.get(); }
    T& operator*() const noexcept { return *object_; }
    T* operator->() const noexcept { return object_.get(); }
    explicit operator bool() const noexcept { return object_ != nullptr; }

    /// The shard of the object. Not of an empty one.
    std::size_t shard() const noexcept { return shard_; }

    /// Lets the object go home, as the destructor does.
    void reset() noexcept {
        if (object_ == nullptr)
            return;
        if (detail::is_on_shard(*home_, shard_)) {
            object_.reset();
            return;
        }
        try {
            spawn_on(*home_, shard_, destroy(std::move(object_))).detach();
        } catch (...) { // nothing but std::bad_alloc
            detail::fatal_without_way_home();
        }
    }

private:
    static task<> destroy(std::unique_ptr<T>) { co_return; } // a parameter goes with the frame

    std::unique_ptr<T> object_;
    std::optional<runtime_handle> home_;
    std::size_t shard_ = 0;
};

} // namespace magpie
