#pragma once

#include "../service.hpp"
#include "traffic.hpp"

#include <string>
#include <vector>

namespace layouts {

/// A service that is to be run under each layout.
///
/// @code
/// magpie::task<> shout(magpie::io::tcp_stream client);
///
/// int main(int argc, char** argv) {
///     return layouts::compare(argc, argv, {{"shout", [] { return shout; }, layouts::lines("hello\n")}});
/// }
/// @endcode
struct compared {
    std::string name;
    example::service make; ///< is called once in each process that serves, on its runtime
    traffic says;          ///< what its clients say
};

/// Requests that are all alike, each answered by one line.
traffic lines(std::string request);

/// The `main` of a program that compares layouts: runs each service under each with the same loads,
/// and reports. `--help` tells what may be said.
/// @return what the program ends with: 0, or 1 if there were errors
int compare(int argc, char** argv, std::vector<compared> services);

} // namespace layouts
