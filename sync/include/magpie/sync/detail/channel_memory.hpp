#pragma once

#include <magpie/core/detail/frame_allocator.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace magpie::sync::detail {

/// Memory for what channels are made of: recycled, unless it is aligned beyond what the recycler gives.
template <class Object>
void* allocate_part() {
    if constexpr (alignof(Object) > magpie::detail::frame_alignment)
        return ::operator new(sizeof(Object), std::align_val_t{alignof(Object)});
    else
        return magpie::detail::allocate_frame(sizeof(Object));
}
template <class Object>
void deallocate_part(void* p) noexcept {
    if constexpr (alignof(Object) > magpie::detail::frame_alignment)
        ::operator delete(p, sizeof(Object), std::align_val_t{alignof(Object)});
    else
        magpie::detail::deallocate_frame(p, sizeof(Object));
}

template <class Object, class... Arguments>
Object* make_part(Arguments&&... arguments) {
    void* const memory = allocate_part<Object>();
    try {
        return ::new (memory) Object(std::forward<Arguments>(arguments)...);
    } catch (...) {
        deallocate_part<Object>(memory);
        throw;
    }
}
template <class Object>
void destroy_part(Object* o) noexcept {
    o->~Object();
    deallocate_part<Object>(o);
}

/// Room for a value that is made and destroyed by hand.
template <class T>
union room {
    room() noexcept {}
    ~room() {}
    room(const room&) = delete;
    room& operator=(const room&) = delete;

    T value;
};

/// Makes `*at` out of `v`: by a move, or by a copy if it is const.
template <class T, class Value>
void construct_from(T& at, Value& v) {
    if constexpr (std::is_const_v<Value>)
        std::construct_at(&at, v);
    else
        std::construct_at(&at, std::move(v));
}

/// Whether a value may be copied under a lock: that runs no code of the user's (R38), and is short.
template <class T>
inline constexpr bool copied_under_lock = std::is_trivially_copyable_v<T> &&
                                          std::is_trivially_destructible_v<T> && sizeof(T) <= 64;

/// Destroys the object at the end of a scope.
template <class T>
class destroyer {
public:
    explicit destroyer(T& o) noexcept : object_(&o) {}
    ~destroyer() noexcept(std::is_nothrow_destructible_v<T>) { object_->~T(); }
    destroyer(const destroyer&) = delete;
    destroyer& operator=(const destroyer&) = delete;

private:
    T* object_;
};

} // namespace magpie::sync::detail
