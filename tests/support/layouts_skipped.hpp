#pragma once

#include <array>

namespace test {

/// A case of core or sync whose task cannot run on a runtime, and why.
struct skipped {
    const char* name;
    const char* reason;
};

inline constexpr std::array skipped_on_layouts{
    skipped{"SC-SELECT-12 what a select starts first is the same in each run on a thread of its own",
            "a worker begins with a seed of its own, which the builder sets"},
    skipped{"SYNC-MPSC-44 send_timeout without timers is misuse, and does not hang",
            "a runtime has timers"},
    skipped{"a receiver that gives up leaves its sender waiting, in front",
            "the sender, on a thread of its own, may come before the receiver has given up"},
};

} // namespace test
