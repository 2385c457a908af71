// A TCP server that sends back what it gets, one task a connection.
//
//     echo [ADDRESS [WORKERS]] [--layout LAYOUT]     127.0.0.1:7000, a worker a processor; port 0: any
//
// Try it with: nc 127.0.0.1 7000, or under load with examples/load. Ctrl-C ends it.

#include "echo.hpp"
#include "service.hpp"

int main(int argc, char** argv) {
    return example::run_service("echo", "127.0.0.1:7000", argc, argv, [] { return example::echo; });
}
