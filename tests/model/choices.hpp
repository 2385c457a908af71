#pragma once

#include <cstddef>
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

    /// Takes one of `options`, of which only the first `allowed` may be taken.
    std::size_t choose(std::size_t options, std::size_t allowed);

    /// Ends an execution. It has to have met all the choices that it was to follow.
    void end();

    /// Goes to the next path. Returns false if there is none.
    bool next() noexcept;

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

    std::vector<choice> path_;
    std::size_t depth_ = 0;  // how much of the path was followed
    std::size_t number_ = 0; // choices met, forbidden ones included
    bool replaying_ = false;
};

} // namespace magpie_model
