#pragma once

#include <cstddef>
#include <type_traits>

namespace magpie::detail {

class shard_message;

/// What goes over with a message's address, in the same cache line: if all fits in that the receiver needs, the
/// message's own lines stay in the sender's caches. Copied byte by byte.
struct enclosure {
    static constexpr std::size_t size = 56;

    /// @tparam T  goes there and back as bytes
    template <class T>
    static constexpr bool has_room_for = std::is_trivially_copyable_v<T> && sizeof(T) <= size &&
                                         alignof(T) <= 8;

    alignas(8) std::byte bytes[size];
};

/// A function that is enclosed with what it was made of.
struct enclosed_call {
    /// Calls what `e` has, and puts the answer in its place. False: the message has the answer; also if it was
    /// revoked, and not called, for which it has to be asked. The message belongs to the receiver until then.
    using caller = bool (*)(shard_message& m, enclosure& e, bool may_be_revoked) noexcept;

    /// @tparam F  is called
    template <class F>
    static constexpr bool has_room_for = enclosure::has_room_for<F> &&
                                         sizeof(F) <= enclosure::size - sizeof(caller);

    caller call;
    alignas(8) std::byte f[enclosure::size - sizeof(caller)];
};
static_assert(enclosure::has_room_for<enclosed_call>);

/// What one shard has for another. It stands where its sender keeps it, and is under way to one shard at a
/// time.
class shard_message {
public:
    shard_message() noexcept = default;
    shard_message(const shard_message&) = delete;
    shard_message& operator=(const shard_message&) = delete;

    /// Called on the thread of the shard to which it was posted, between two turns.
    virtual void arrive() noexcept = 0;

    /// Called on the sender's thread when it goes: whether it has enclosed an `enclosed_call`. Then that is called over
    /// there, and then `answered` here; `arrive` is not.
    virtual bool enclose(enclosure& e) noexcept = 0;
    /// @param e  has the answer; null: the message itself
    virtual void answered(const enclosure* e) noexcept = 0;

    /// Brings it nearer, with what stands behind it.
    void prefetch() const noexcept {
        const auto* const at = reinterpret_cast<const char*>(this);
        __builtin_prefetch(at, 1);
        __builtin_prefetch(at + 64, 1);
    }

    shard_message* next = nullptr; ///< the link of whatever list it stands in

protected:
    ~shard_message() = default;
};

} // namespace magpie::detail
