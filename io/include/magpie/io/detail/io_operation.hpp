#pragma once

#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace magpie::io::detail {

class registration;

/// What one attempt has come to.
enum class attempt : unsigned char {
    done,        ///< over; the next operation may succeed at once, too
    drained,     ///< over, and the descriptor has nothing more: the next operation waits for an event
    would_block, ///< wait for an event
    again,       ///< look at the readiness once more
};

/// What an operation waits for: bits, for `async_fd` may wait for several at a time.
namespace waits_for {
inline constexpr unsigned char read = 1;
inline constexpr unsigned char write = 2;
inline constexpr unsigned char priority = 4;
inline constexpr unsigned char error = 8;
} // namespace waits_for

/// The base of each operation on a descriptor: a system call that is made by the task itself, and
/// made again after an event when it would have blocked. Nothing of it is ever left with the kernel,
/// so dropping it loses nothing.
class io_operation : public operation<io_operation> {
public:
    bool try_complete() noexcept;
    bool publish() noexcept;

protected:
    /// @param r     null: begin() makes it when the operation is awaited, or ends the operation
    /// @param what  waits_for::read or write, or several bits; never 0
    /// @param kind  for the derived class
    io_operation(registration* r, unsigned char what, unsigned char kind = 0) noexcept
        : what_(what & 15U), kind_(kind & 15U), registration_(r), result_(0) {}
    /// One that is about what stands at `data`, of which it takes as much as one system call does. That is
    /// kept until it has a result.
    io_operation(registration* r, unsigned char what, unsigned char kind, const void* data,
                 std::size_t size) noexcept
        : what_(what & 15U), kind_(kind & 15U),
          size_(static_cast<std::uint32_t>(std::min(size, most_in_one_call))), registration_(r),
          data_(const_cast<void*>(data)) {}
    io_operation(io_operation&& other) noexcept
        : operation<io_operation>(static_cast<operation<io_operation>&&>(other)), what_(other.what_),
          kind_(other.kind_), size_(other.size_), registration_(other.registration_),
          result_(other.result_) {
        static_assert(sizeof data_ <= sizeof result_);
    }
    ~io_operation() = default;

    unsigned char kind() const noexcept { return kind_; }

    /// Called when there is no registration: makes one, or gives true, and the operation is over.
    virtual bool begin() noexcept { return result_ = 0, true; }

    /// One system call, which does not block. When it is over, `result_` has what came of it.
    virtual attempt perform(int fd) noexcept = 0;

    /// What it gave. @throws std::system_error, with `what` in its text
    std::int64_t value(const char* what) const;
    boost::system::error_code error() const noexcept;
    template <class T>
    result<T> as() const noexcept {
        if (result_ < 0)
            return {boost::system::in_place_error, error()};
        if constexpr (std::is_void_v<T>)
            return {boost::system::in_place_value};
        else
            return {boost::system::in_place_value, static_cast<T>(result_)};
    }

    static constexpr std::int64_t end_too_early = INT64_MIN;    // io_error::unexpected_end
    static constexpr std::int64_t runtime_gone = INT64_MIN + 1; // io_error::runtime_gone

private:
    friend class registration;
    cancel_answer cancel() noexcept final;
    io_operation* next() const noexcept { return static_cast<io_operation*>(next_waiting()); }

    static constexpr std::size_t most_in_one_call = 0x7fff'f000; // read(2)

    // These stand in what the base leaves free: an idle connection is mostly one of these.
    unsigned char what_ : 4;
    unsigned char kind_ : 4;
    bool listed_ = false; // among the others of its page (registration); guarded by the lock there

protected:
    std::uint32_t size_ = 0;
    registration* registration_;
    union {
        std::int64_t result_; // once it is over: 0 or more, or less an errno
        void* data_;          // until then, for an operation that was made with it
    };
};

} // namespace magpie::io::detail
