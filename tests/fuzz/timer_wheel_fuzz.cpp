// The timer wheel against a sorted map.

#include "script.hpp"

#include <scheduler/src/timer_wheel.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

namespace {

using magpie::detail::timer_entry;
using magpie::detail::timer_wheel;
using test::require;

constexpr std::uint64_t end_of_time = std::uint64_t{1} << 43; // milliseconds, about the clock's last

class both {
public:
    void insert(std::size_t i, std::uint64_t tick) {
        timer_entry& e = entries_[i];
        if (e.armed)
            return;
        tick = std::min(tick, end_of_time);
        e.armed = true;
        wheel_->insert(e, tick);
        due_.emplace(tick, i);
    }

    void remove(std::size_t i) {
        timer_entry& e = entries_[i];
        if (!e.armed)
            return;
        e.armed = false;
        const std::uint64_t before = wheel_->next_tick();
        const bool may_change = wheel_->remove(e);
        require(may_change || wheel_->next_tick() == before, "next_tick changes only if it says so");
        due_.erase({e.tick, i});
    }

    void advance(std::uint64_t to) {
        to = std::min(to, end_of_time);
        const std::uint64_t elapsed = std::max(to, wheel_->elapsed());
        std::uint64_t last = 0;
        timer_entry* fired = wheel_->advance(to);
        require(wheel_->elapsed() == elapsed, "the wheel stands where it was moved to");
        while (fired != nullptr) {
            const auto i = static_cast<std::size_t>(fired - entries_.data());
            require(!fired->armed, "what fires is disarmed");
            require(due_.erase({fired->tick, i}) == 1, "what fires was in, and fires once");
            require(fired->tick <= elapsed, "nothing fires early");
            // What was due when it came in fires with the next advance, not before others of that.
            const std::uint64_t shown = std::max(fired->tick, before_ + 1);
            require(shown >= last, "earliest first");
            last = shown;
            fired = std::exchange(fired->next, nullptr);
        }
        if (elapsed > before_)
            require(due_.empty() || due_.begin()->first > elapsed, "nothing that is due is left");
        before_ = elapsed;
        look();
    }

    void look() const {
        const std::uint64_t next = wheel_->next_tick();
        if (due_.empty())
            require(next == timer_wheel::never, "no entry, no next tick");
        else
            require(next <= std::max(due_.begin()->first, wheel_->elapsed() + 1), "never too late");
        if (next != timer_wheel::never)
            require(next > wheel_->elapsed(), "what is next is to come");
    }

    std::uint64_t now() const noexcept { return wheel_->elapsed(); }
    std::uint64_t next() const noexcept { return wheel_->next_tick(); }

private:
    std::array<timer_entry, 64> entries_{};
    std::unique_ptr<timer_wheel> wheel_ = std::make_unique<timer_wheel>();
    std::set<std::pair<std::uint64_t, std::size_t>> due_;
    std::uint64_t before_ = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    test::script s(data, std::min<std::size_t>(size, 4096));
    both b;
    while (!s.over()) {
        switch (s.below(8)) {
        case 0:
        case 1: {
            const std::size_t i = s.below(64);
            b.insert(i, b.now() + s.number());
            break;
        }
        case 2: {
            const std::size_t i = s.below(64);
            b.insert(i, s.number()); // perhaps past
            break;
        }
        case 3: {
            // At the edge of a level.
            const std::size_t i = s.below(64);
            const unsigned shift = 6 * static_cast<unsigned>(1 + s.below(8));
            b.insert(i, ((b.now() >> shift) + 1 + s.below(3)) * (std::uint64_t{1} << shift) +
                            s.below(3) - 1);
            break;
        }
        case 4: b.remove(s.below(64)); break;
        case 5: b.advance(b.now() + s.number()); break;
        case 6: b.advance(b.now() + s.below(256)); break;
        default:
            if (b.next() != timer_wheel::never)
                b.advance(b.next() - s.below(2));
        }
        b.look();
    }
    b.advance(end_of_time);
    return 0;
}
