#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace layouts {

/// What a client of a service says, and how it knows the end of an answer.
struct traffic {
    /// What there is of an answer at the beginning of what was received.
    enum class verdict { whole, incomplete, wrong };
    struct answer {
        verdict is = verdict::incomplete;
        std::size_t size = 0; ///< bytes of a whole one
    };

    /// What a request is to ask for, as far as the service can do with it.
    struct wish {
        std::uint64_t key = 0; ///< 0 to `key_count` - 1, hot and cold ones if the load is skewed
        std::chrono::nanoseconds work{}; ///< that the service is to compute for it
    };

    /// Appends a request. It is called on several threads.
    std::function<void(std::string& out, const wish& w)> request;
    /// Finds the first answer in what was received, which is not empty. It is called on several threads.
    std::function<answer(std::string_view received)> find;
};

/// How many keys there are.
inline constexpr std::uint64_t key_count = 100'000;

} // namespace layouts
