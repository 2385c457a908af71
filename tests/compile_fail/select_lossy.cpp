// SCOPE-13: a select refuses what loses a part of its effect when it is dropped
// error: loses a part of its effect

#include <magpie/magpie.hpp>

#include <span>

magpie::task<> use(magpie::io::tcp_stream& stream, std::span<const std::byte> message) {
#ifdef MUST_NOT_COMPILE
    co_await magpie::select(magpie::io::write_all(stream, message), magpie::yield_now());
#else
    co_await magpie::select(magpie::may_lose(magpie::io::write_all(stream, message)),
                            magpie::yield_now());
#endif
}
