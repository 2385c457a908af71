#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/sync/detail/channel_memory.hpp>

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace magpie::sync::detail {

template <class T>
inline constexpr bool snapshot_is_copy = copied_under_lock<T> && std::is_copy_constructible_v<T>;

/// A value as it was at some moment. Small values that run no code are copied, all others are shared and never
/// change.
template <class T, bool = snapshot_is_copy<T>>
class snapshot {
public:
    template <class Value>
    static snapshot make(Value& v) {
        return snapshot(std::in_place, v);
    }
    snapshot(const snapshot&) noexcept = default;
    snapshot& operator=(const snapshot& other) noexcept {
        std::construct_at(&value_, other.value_); // T may have constant members
        return *this;
    }

    const T& operator*() const noexcept { return value_; }
    const T* operator->() const noexcept { return &value_; }

private:
    template <class Value>
    snapshot(std::in_place_t, Value& v) noexcept : value_(std::move(v)) {}

    T value_;
};

template <class T>
class snapshot<T, false> {
public:
    /// Moves from `v`, or copies it if it is const.
    template <class Value>
    static snapshot make(Value& v) {
        return snapshot(make_part<node>(v));
    }
    snapshot(const snapshot& other) noexcept : node_(other.node_) { retain(); }
    snapshot(snapshot&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
    snapshot& operator=(snapshot other) noexcept {
        std::swap(node_, other.node_);
        return *this;
    }
    ~snapshot() { release(); }

    const T& operator*() const noexcept { return node_->value.value; }
    const T* operator->() const noexcept { return &node_->value.value; }

private:
    class node {
    public:
        template <class Value>
        explicit node(Value& v) {
            construct_from(value.value, v);
        }
        ~node() { value.value.~T(); }
        node(const node&) = delete;

        room<T> value;
        magpie::detail::atomic<std::uint32_t> references{1};
    };

    explicit snapshot(node* n) noexcept : node_(n) {}

    void retain() noexcept {
        if (node_ != nullptr)
            node_->references.fetch_add(1, std::memory_order_relaxed); // the other one has a reference
    }
    void release() noexcept {
        // Each release pairs with the last one's acquire: nobody reads the value any more.
        if (node_ != nullptr && node_->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
            destroy_part(node_);
    }

    node* node_;
};

} // namespace magpie::sync::detail
