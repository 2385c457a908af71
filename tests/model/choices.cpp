#include "choices.hpp"

#include "explorer.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace magpie_model {

namespace {

constexpr const char* differs =
    "the scenario does not follow it: it must depend on its schedule alone, and a "
    "schedule belongs to one scenario in one version";

} // namespace

void choices::begin() noexcept {
    if (wandering_) { // now and then often, so that a late departure is as likely as an early one
        path_.clear();
        distance_ = 2 + random(number_);
    }
    depth_ = number_ = near_ = 0;
}

std::size_t choices::random(std::size_t below) noexcept {
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return below == 0 ? 0 : (random_ * 0x2545F4914F6CDD1DULL >> 32) % below;
}

std::size_t choices::pick(std::size_t free, std::size_t allowed) noexcept {
    constexpr std::size_t near_distance = 4;
    const std::size_t distance = near_ > 0 ? --near_, std::min(distance_, near_distance) : distance_;
    if (allowed > free && random(distance) == 0)
        return free + random(allowed - free);
    return random(free);
}

std::size_t choices::choose(std::size_t options, std::size_t allowed, std::size_t free) {
    if (options < 2)
        return 0;
    ++number_;
    if (replaying_) {
        if (depth_ == path_.size() || path_[depth_].number != number_)
            return 0;
        if (path_[depth_].option >= options)
            fail("schedule", differs);
        return path_[depth_++].option;
    }
    if (allowed < 2)
        return 0;
    if (depth_ == path_.size())
        path_.push_back({number_, wandering_ ? pick(free, allowed) : 0, allowed});
    const choice& c = path_[depth_++];
    if (c.number != number_ || c.allowed != allowed)
        fail("schedule", differs);
    return c.option;
}

void choices::end() {
    if (depth_ != path_.size())
        fail("schedule", differs);
}

bool choices::next() noexcept {
    while (!path_.empty()) {
        if (++path_.back().option < path_.back().allowed)
            return true;
        path_.pop_back();
    }
    return false;
}

std::string choices::text() const {
    std::string text;
    for (std::size_t i = 0; i < depth_; ++i) {
        if (path_[i].option == 0)
            continue;
        if (!text.empty())
            text += '-';
        text += std::to_string(path_[i].number);
        text += '.';
        text += std::to_string(path_[i].option);
    }
    return text.empty() ? "none" : text;
}

bool choices::replay(std::string_view text) {
    replaying_ = true;
    path_.clear();
    if (text == "none")
        return true;
    const char* at = text.data();
    const char* const end = at + text.size();
    for (;;) {
        choice c{0, 0, std::numeric_limits<std::size_t>::max()};
        const auto number = std::from_chars(at, end, c.number);
        if (number.ec != std::errc() || number.ptr == end || *number.ptr != '.')
            return false;
        const auto option = std::from_chars(number.ptr + 1, end, c.option);
        if (option.ec != std::errc())
            return false;
        path_.push_back(c);
        if (option.ptr == end)
            return true;
        if (*option.ptr != '-')
            return false;
        at = option.ptr + 1;
    }
}

} // namespace magpie_model
