#pragma once

#include "server.hpp"

#include <string_view>

namespace bench {
/// Prints the names of `servers()`, one a line.
int list_servers();

/// Runs the server `name` until standard input ends; what main returns.
int serve(std::string_view name, const serve_options& options);
} // namespace bench
