#pragma once

// Everything of magpie::sync.

#include <magpie/sync/event.hpp>
