#include <magpie/core/detail/atomic.hpp>

#if !defined(MAGPIE_MODEL)

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace magpie::detail {

bool prepare_heavy_barrier() noexcept {
    // Once for a process; what it says stays so.
    static const bool prepared = ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0,
                                           0) == 0;
    return prepared;
}

bool heavy_barrier() noexcept {
    return ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

} // namespace magpie::detail

#endif
