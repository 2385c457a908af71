// The product's frame allocator, and behind it what its own file alone can do: change the thread's lists.
#include <core/src/frame_allocator.cpp>

#include "frames.hpp"
#include "machine.hpp"

#include <type_traits>

namespace magpie_machine {

using magpie::detail::mine;

static_assert(std::is_trivially_copyable_v<decltype(mine)>);
static_assert(magpie::detail::cache_state{} == magpie::detail::cache_state::fresh);

std::span<std::byte> frame_lists() noexcept { return std::as_writable_bytes(std::span(&mine, 1)); }

void end_frames() noexcept {
    magpie::detail::end_cache(nullptr);
    mine = {};
}

void name_frame_depots() {
    name(&magpie::detail::depot_of(0), magpie::detail::class_count * sizeof(magpie::detail::depot),
         "frame allocator's depots");
}

} // namespace magpie_machine
