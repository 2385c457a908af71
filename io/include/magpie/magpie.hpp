#pragma once

// Everything of magpie.

#include <magpie/core.hpp>
#include <magpie/io.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>
