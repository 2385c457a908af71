#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace magpie_model {

/// The choices of one execution, and the way from one execution to the next: a depth-first search
/// of a tree that is nowhere kept, for each execution makes its path anew.
///
/// Option 0 is the default: run on, or if that cannot be, the first thread that can. A schedule as
/// text names the choices that were made otherwise: "12.1-30.2" is option 1 at choice 12, option 2
/// at choice 30. What a bound forbids is counted as well, so that a text holds for any bound.
class choices {
public:
    /// Begins an execution.
    void begin() noexcept;

    /// Takes one of `options`, of which only the first `allowed` may be taken, and the first `free` have no
    /// price.
    std::size_t choose(std::size_t options, std::size_t allowed, std::size_t free = 1);

    /// Ends an execution. It has to have met all the choices that it was to follow.
    void end();

    /// Goes to the next path. Returns false if there is none.
    bool next() noexcept;

    /// From here on each execution takes a path at random: from the default, few departures.
    void wander() noexcept { wandering_ = true; }

    /// What is looked for may be near: more departures for a while, if it wanders.
    void come_near() noexcept { near_ = 16; }

    /// The path so far as text; "none" if all choices are the default.
    std::string text() const;

    /// Follows a text in the next execution. Returns false if it is no schedule.
    bool replay(std::string_view text);

private:
    struct choice {
        std::size_t number;
        std::size_t option;
        std::size_t allowed;
    };

    std::size_t pick(std::size_t free, std::size_t allowed) noexcept;
    std::size_t random(std::size_t below) noexcept;

    std::vector<choice> path_;
    std::size_t depth_ = 0;  // how much of the path was followed
    std::size_t number_ = 0; // choices met, forbidden ones included
    bool replaying_ = false;
    bool wandering_ = false;
    std::size_t near_ = 0;                         // so many choices more
    std::size_t distance_ = 1;                     // about how many choices are between departures
    std::uint64_t random_ = 0x9E3779B97F4A7C15ULL; // always the same: so are the paths
};

} // namespace magpie_model
