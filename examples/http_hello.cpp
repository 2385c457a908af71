// Answers every HTTP request with "Hello, world!" and keeps the connection: no HTTP library, for
// benchmarks.
//
//     http_hello [ADDRESS [WORKERS]] [--layout LAYOUT]     127.0.0.1:8080, a worker a processor
//
// Port 0 is any that is free. Try it with: curl http://127.0.0.1:8080/, or under load with:
// wrk -c 50 http://127.0.0.1:8080/. Ctrl-C ends it.

#include "http_hello.hpp"
#include "service.hpp"

int main(int argc, char** argv) {
    return example::run_service("http_hello", "127.0.0.1:8080", argc, argv,
                                [] { return example::http_hello; });
}
