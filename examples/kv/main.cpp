// A store of keys and values that speaks the Redis protocol: PING, GET, SET, DEL, INCR, MGET.
//
//     kv [ADDRESS [WORKERS]] [--layout LAYOUT]     127.0.0.1:6379, a worker a processor; port 0: any
//
// Try it with: redis-cli SET greeting hello, or under load with: redis-benchmark -t set,get -P 16
// Keys and values may have any bytes, and live in memory only. Ctrl-C ends it.

#include "service.hpp"

int main(int argc, char** argv) {
    return example::run_service("kv", "127.0.0.1:6379", argc, argv, kv::service());
}
