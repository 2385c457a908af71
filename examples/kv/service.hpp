#pragma once

#include "../service.hpp"
#include "owned_store.hpp"
#include "session.hpp"
#include "shared_store.hpp"

#include <magpie/magpie.hpp>

#include <cstddef>
#include <memory>
#include <utility>

namespace kv {

/// The store as a service: under `thread_per_core` each shard owns a part of the keys, else all tasks
/// share them.
inline example::service service() {
    return [owned = std::shared_ptr<owned_store>()]() mutable -> example::session {
        if (magpie::runtime_handle::current().layout() != magpie::layout::thread_per_core) {
            return [store = std::make_shared<shared_store>()](magpie::io::tcp_stream client) {
                return serve(std::move(client), shared_requests(store));
            };
        }
        if (!owned) // shards are asked one after another
            owned = std::make_shared<owned_store>(magpie::shard_count());
        return [store = owned, here = magpie::this_shard()](magpie::io::tcp_stream client) {
            return serve(std::move(client), owned_requests(store, here));
        };
    };
}

} // namespace kv
