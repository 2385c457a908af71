#pragma once

#include <cstddef>
#include <ostream>

// The program has operator new and delete of its own, and is linked with --wrap for malloc and its like, for
// the mmap of the frame allocator, and for the frame allocator itself: so each request for memory of magpie's
// is counted, also those that the frames' free lists would answer, and any of them can be refused. (ThreadSanitizer has
// an operator new of its own. It is wrapped as well: requests are refused there, but blocks are not counted.)

namespace test {

/// While it lives, the `n`th request for memory from now on (1: the next), on whichever thread, finds none.
/// One at a time.
class refused_memory {
public:
    explicit refused_memory(std::size_t n) noexcept;
    refused_memory(const refused_memory&) = delete;
    ~refused_memory() { stop(); }

    /// Refuses nothing any more. Returns whether one was refused.
    bool stop() noexcept;
};

/// How much memory is in use: of operator new's, and of the frame allocator's.
struct used_memory {
    long blocks;
    long frames;
    friend bool operator==(const used_memory&, const used_memory&) = default;
    friend std::ostream& operator<<(std::ostream& to, const used_memory& m) {
        return to << m.blocks << " blocks, " << m.frames << " frames";
    }
};
used_memory memory_in_use() noexcept;

} // namespace test
