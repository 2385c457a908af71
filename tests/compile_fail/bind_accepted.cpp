// CPP-11: what accept gives is not taken apart in a structured binding
// error: cannot decompose class type

#include <magpie/magpie.hpp>

magpie::task<> serve(magpie::io::tcp_listener& listener) {
#if defined(MUST_NOT_COMPILE)
    auto [stream, peer] = co_await listener.accept();
#else
    auto next = co_await listener.accept();
#endif
}

int main() {}
