#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// What a driver in C++ offers by `DRIVER serve NAME`; README.md says what each name means.
///
/// A driver defines `servers()`; the command line and the JSON line stand in serve.cpp.
namespace bench {
/// A server under way: it serves on threads of its own until `runtime` goes.
struct running_server {
    std::uint16_t port;
    std::shared_ptr<void> runtime;
};

struct server {
    std::string name;
    /// Binds a free port of 127.0.0.1; connections are accepted from when it returns.
    std::function<running_server(unsigned workers)> start;
};

// What a driver defines; none if it cannot serve.
std::vector<server> servers();
} // namespace bench
