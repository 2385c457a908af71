#pragma once

#include <magpie/sync/object_name.hpp>

#include <concepts>
#include <cstddef>
#include <typeindex>
#include <typeinfo>
#include <utility>
#include <vector>

namespace magpie::sync {

/// What is called by a name.
struct named_object {
    const char* name;
    const void* object;   ///< where it is, or was: it may be gone by now
    std::type_index type; ///< as `typeid` gives it of the `T` of a `named<T>`
};

/// All objects that have a name now, the newest first.
///
/// @throws std::bad_alloc
/// @par Thread safety
/// From any thread. What it gives was true at one moment.
/// @par Complexity
/// O(number of named objects), under a lock that who makes or destroys one takes as well.
std::vector<named_object> named_objects();

namespace detail {

/// A place in the list of all names: a member of what is called so.
class name_entry {
public:
    /// @param object  that this is a part of
    name_entry(object_name name, const void* object, const std::type_info& type) noexcept;
    /// Of an object that is moved as a whole.
    name_entry(name_entry&& other) noexcept;
    name_entry& operator=(name_entry&&) = delete;
    ~name_entry();

    const char* text() const noexcept { return name_.text(); }

private:
    friend class all_names;

    const void* object() const noexcept { return reinterpret_cast<const std::byte*>(this) - offset_; }

    const object_name name_;
    const std::type_info& type_;
    const std::ptrdiff_t offset_;    // from the object to here
    name_entry* previous_ = nullptr; // guarded by the list's lock, as the next one
    name_entry* next_ = nullptr;
};

} // namespace detail

/// A `T` that has a name: a lock, a semaphore, a notify, a latch, an end of a channel, or what else has to be found
/// in a list of what a program waits for.
///
/// It is a `T`, and is used like one. The name is known as long as it lives, in every build; what has no name costs
/// nothing. A lock that is made so has the name in the reports of `lock_trace.hpp`, too.
///
/// @par Thread safety
/// That of `T`. Made and destroyed on any thread.
/// @par Complexity
/// Six words more than `T`; making, moving and destroying it take a lock of the process.
/// @par Example
/// @code
/// magpie::sync::named<magpie::sync::semaphore> slots("upload slots", 10);
/// auto ends = magpie::sync::mpsc::channel<job>(100);
/// magpie::sync::named<magpie::sync::mpsc::receiver<job>> jobs("jobs", std::move(ends.rx));
///
/// for (const magpie::sync::named_object& o : magpie::sync::named_objects())
///     std::cout << o.name << '\n'; // jobs, upload slots
/// @endcode
template <class T>
class named : public T {
public:
    /// @param name  a string literal
    /// @param args  what `T` is made of
    /// @throws what that throws
    template <class... Args>
        requires(std::constructible_from<T, Args...> &&
                 !std::constructible_from<T, object_name, Args...>)
    explicit named(object_name name, Args&&... args)
        : T(std::forward<Args>(args)...), entry_(name, static_cast<const T*>(this), typeid(T)) {}
    /// The same of a `T` that takes a name itself.
    template <class... Args>
        requires std::constructible_from<T, object_name, Args...>
    explicit named(object_name name, Args&&... args)
        : T(name, std::forward<Args>(args)...), entry_(name, static_cast<const T*>(this), typeid(T)) {}

    const char* name() const noexcept { return entry_.text(); }

private:
    detail::name_entry entry_;
};

} // namespace magpie::sync
