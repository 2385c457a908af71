#include "serve.hpp"

#include "harness.hpp"
#include "server.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <system_error>

#include <unistd.h>

namespace bench {
namespace {
void wait_for_end_of_input() {
    char ignored[64];
    for (;;) {
        const auto got = ::read(STDIN_FILENO, ignored, sizeof ignored);
        if (got == 0)
            return;
        if (got < 0 && errno != EINTR)
            throw std::system_error(errno, std::generic_category(), "read of standard input");
    }
}
} // namespace

int list_servers() {
    for (const auto& s : servers())
        std::cout << s.name << '\n';
    return EXIT_SUCCESS;
}

int serve(std::string_view name, const serve_options& options) {
    const auto all = servers();
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const auto& s) { return s.name == name; });
    if (found == all.end()) {
        std::cerr << "no server '" << name << "'; serve --list shows them\n";
        return 2;
    }
    const auto running = found->start(options);
    std::cout << nlohmann::ordered_json{{"peer", peer_name()},  {"version", peer_version()},
                                        {"serves", name},       {"workers", options.workers},
                                        {"port", running.port}, {"pid", ::getpid()}}
              << std::endl;
    wait_for_end_of_input();
    return EXIT_SUCCESS;
}
} // namespace bench
