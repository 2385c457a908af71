#pragma once

// Everything of magpie::sync.

#include <magpie/sync/cancellation_token.hpp>
#include <magpie/sync/event.hpp>
#include <magpie/sync/semaphore.hpp>
