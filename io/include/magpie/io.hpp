#pragma once

// Everything of magpie's I/O.

#include <magpie/io/endpoint.hpp>
#include <magpie/io/error.hpp>
#include <magpie/io/readiness.hpp>
#include <magpie/io/tcp_listener.hpp>
#include <magpie/io/tcp_socket.hpp>
#include <magpie/io/tcp_stream.hpp>
#include <magpie/io/transfer.hpp>
