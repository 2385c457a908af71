#pragma once

// Everything of magpie's I/O.

#include <magpie/io/async_fd.hpp>
#include <magpie/io/cancel_on.hpp>
#include <magpie/io/endpoint.hpp>
#include <magpie/io/error.hpp>
#include <magpie/io/read.hpp>
#include <magpie/io/readiness.hpp>
#include <magpie/io/resolve.hpp>
#include <magpie/io/serve.hpp>
#include <magpie/io/signal.hpp>
#include <magpie/io/stream.hpp>
#include <magpie/io/tcp_connect.hpp>
#include <magpie/io/tcp_halves.hpp>
#include <magpie/io/tcp_listener.hpp>
#include <magpie/io/tcp_socket.hpp>
#include <magpie/io/tcp_stream.hpp>
#include <magpie/io/transfer.hpp>
#include <magpie/io/write.hpp>
