#pragma once

// Everything of magpie::sync.

#include <magpie/sync/barrier.hpp>
#include <magpie/sync/broadcast.hpp>
#include <magpie/sync/cancel_reason.hpp>
#include <magpie/sync/cancellation_token.hpp>
#include <magpie/sync/condition_variable.hpp>
#include <magpie/sync/event.hpp>
#include <magpie/sync/guard.hpp>
#include <magpie/sync/guarded.hpp>
#include <magpie/sync/guarded_shared.hpp>
#include <magpie/sync/latch.hpp>
#include <magpie/sync/lazy.hpp>
#include <magpie/sync/lock_trace.hpp>
#include <magpie/sync/mpmc.hpp>
#include <magpie/sync/mpsc.hpp>
#include <magpie/sync/mutex.hpp>
#include <magpie/sync/named.hpp>
#include <magpie/sync/notify.hpp>
#include <magpie/sync/object_name.hpp>
#include <magpie/sync/once_cell.hpp>
#include <magpie/sync/oneshot.hpp>
#include <magpie/sync/received.hpp>
#include <magpie/sync/rendezvous.hpp>
#include <magpie/sync/scoped_lock.hpp>
#include <magpie/sync/semaphore.hpp>
#include <magpie/sync/send_error.hpp>
#include <magpie/sync/send_result.hpp>
#include <magpie/sync/set_once.hpp>
#include <magpie/sync/shared_mutex.hpp>
#include <magpie/sync/watch.hpp>
