#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
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

/// How a server shall run.
struct serve_options {
    unsigned workers = 2;
    std::string layout; // the name of one; empty: the driver's usual one
};

struct server {
    std::string name;
    /// Binds a free port of 127.0.0.1; connections are accepted from when it returns.
    std::function<running_server(const serve_options&)> start;
};

/// For a driver whose servers run in one way only.
inline auto in_one_layout(std::function<running_server(unsigned workers)> start) {
    return [start = std::move(start)](const serve_options& options) {
        if (!options.layout.empty())
            throw std::invalid_argument("this driver has no layouts");
        return start(options.workers);
    };
}

// What a driver defines; none if it cannot serve.
std::vector<server> servers();
} // namespace bench
