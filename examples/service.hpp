#pragma once

#include <magpie/magpie.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// What the services of these examples share: a command line, a runtime of the layout that it names, and
// the accepting of connections. The service itself is the same under each layout.

namespace example {

/// Serves one connection.
using session = std::function<magpie::task<>(magpie::io::tcp_stream)>;
/// Makes what serves connections. It is called in a task of the runtime; under `thread_per_core` on each
/// shard, one after another.
using service = std::function<session()>;

/// A layout, as the services' `--layout` names it.
struct named_layout {
    std::string_view name;
    magpie::layout layout;
    std::string_view summary;
};

inline constexpr std::array layouts{
    named_layout{"multi_thread", magpie::layout::multi_thread, "workers that steal, one reactor"},
    named_layout{"thread_per_core", magpie::layout::thread_per_core,
                 "a shard a core, nothing is stolen"},
    named_layout{"current_thread", magpie::layout::current_thread, "one worker"},
};

/// @throws std::invalid_argument for a name that there is none of
inline const named_layout& layout_named(std::string_view name) {
    std::string names;
    for (const named_layout& l : layouts) {
        if (l.name == name)
            return l;
        names.append(names.empty() ? "" : ", ").append(l.name);
    }
    throw std::invalid_argument("no layout '" + std::string(name) + "'; there are " + names);
}

inline magpie::task<> accept_from(magpie::io::tcp_listener listener, session serve, std::string name) {
    for (;;) {
        auto next = co_await magpie::as_result(listener.accept());
        if (next) {
            magpie::spawn(serve(std::move(next->stream))).detach();
        } else { // no descriptor is left, say: who wants to connect waits
            std::cerr << name << ": accept: " << next.error().message() << std::endl;
            co_await magpie::sleep_for(std::chrono::milliseconds(100));
        }
    }
}

/// Listens on the calling shard. Gives where that is.
inline magpie::task<magpie::io::endpoint> listen(magpie::io::endpoint at,
                                                 magpie::io::listen_options options, service& make,
                                                 std::string name) {
    auto listener = magpie::io::tcp_listener::bind(at, options);
    const magpie::io::endpoint bound = listener.local_endpoint();
    magpie::spawn(accept_from(std::move(listener), make(), std::move(name))).detach();
    co_return bound;
}

/// Begins to accept at `at`, in tasks of their own; under `thread_per_core` on each shard, among which the
/// system spreads the connections. Gives where that is: port 0 is any that is free.
inline magpie::task<magpie::io::endpoint> start_service(magpie::io::endpoint at, service make,
                                                        std::string name) {
    auto options = magpie::io::listen_options().backlog(4096);
    if (magpie::runtime_handle::current().layout() != magpie::layout::thread_per_core)
        co_return co_await listen(at, options, make, name);
    options.reuse_port(true);
    for (std::size_t shard = 0; shard < magpie::shard_count(); ++shard)
        at = co_await magpie::spawn_on(shard, listen(at, options, make, name));
    co_return at;
}

inline magpie::task<> serve_until_interrupted(magpie::io::endpoint at, service make, std::string name) {
    auto stop = magpie::io::ctrl_c(); // listens from here on
    const auto bound = co_await start_service(at, std::move(make), std::move(name));
    std::cout << "listening on " << bound.to_string() << std::endl;
    co_await std::move(stop);
} // the runtime goes, and drops the tasks that are left: each connection is closed

/// The `main` of a service: [ADDRESS [WORKERS]] [--layout LAYOUT].
inline int run_service(const std::string& name, const std::string& default_address, int argc,
                       char** argv, service make) try {
    const named_layout* l = &layouts.front();
    std::vector<std::string> words;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--layout" && i + 1 < argc)
            l = &layout_named(argv[++i]);
        else if (word.starts_with('-') || words.size() == 2)
            throw std::invalid_argument("what is '" + std::string(word) + "'?");
        else
            words.emplace_back(word);
    }
    const magpie::io::endpoint at(words.empty() ? default_address : words[0]);
    magpie::runtime_builder builder;
    builder.layout(l->layout);
    if (words.size() == 2)
        builder.worker_threads(std::stoul(words[1])); // it refuses 0
    builder.build().block_on(serve_until_interrupted(at, std::move(make), name));
    return EXIT_SUCCESS;
} catch (const std::exception& e) {
    std::cerr << name << ": " << e.what() << "\nusage: " << name
              << " [ADDRESS [WORKERS]] [--layout LAYOUT]\nlayouts:\n";
    for (const named_layout& l : layouts)
        std::cerr << "  " << l.name << ": " << l.summary << '\n';
    return EXIT_FAILURE;
}

} // namespace example
