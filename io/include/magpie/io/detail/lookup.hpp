#pragma once

#include <magpie/io/endpoint.hpp>

#include <magpie/core/error.hpp>

#include <string>
#include <vector>

namespace magpie::io::detail {

/// Looks a name up and blocks meanwhile. Called on blocking threads, several at a time.
using lookup_function = result<std::vector<endpoint>> (*)(const std::string& host,
                                                          const std::string& service);

/// The one that asks the system: getaddrinfo.
result<std::vector<endpoint>> system_lookup(const std::string& host, const std::string& service);

/// Puts another function in the place of `system_lookup`, for tests. Gives the one before.
lookup_function set_lookup_function(lookup_function f) noexcept;

} // namespace magpie::io::detail
