#pragma once

namespace magpie::detail {

/// What one shard has for another. It stands where its sender keeps it, and is under way to one shard at a
/// time.
class shard_message {
public:
    shard_message() noexcept = default;
    shard_message(const shard_message&) = delete;
    shard_message& operator=(const shard_message&) = delete;

    /// Called on the thread of the shard to which it was posted, between two turns.
    virtual void arrive() noexcept = 0;

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
