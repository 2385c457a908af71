#pragma once

#include <magpie/sync/detail/channel_memory.hpp>
#include <magpie/sync/detail/channel_state.hpp>

#include <type_traits>
#include <utility>

namespace magpie::sync::detail {

/// Both ends of a channel, to be bound: `auto [tx, rx] = ...`.
template <class Sender, class Receiver>
class endpoints {
public:
    endpoints(Sender&& sends, Receiver&& receives) noexcept
        : tx(std::move(sends)), rx(std::move(receives)) {}

    Sender tx;
    Receiver rx;
};

template <class T, class Sender, class Receiver>
endpoints<Sender, Receiver> make_endpoints(const channel_shape& shape) {
    static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>,
                  "what goes through a channel is moved: send values, or pointers");
    auto* const c = make_part<channel_state<T>>(shape);
    return endpoints<Sender, Receiver>(Sender(c), Receiver(c));
}

} // namespace magpie::sync::detail
