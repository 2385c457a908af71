#pragma once

#include "layouts.hpp"

#include <magpie/magpie.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <span>
#include <string>
#include <string_view>

namespace layouts {

/// Work that no compiler can leave out or shorten.
inline std::uint64_t compute(std::uint64_t rounds) noexcept {
    std::uint64_t x = 0x9e3779b97f4a7c15u;
    for (; rounds > 0; --rounds) { // xorshift
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

/// How many rounds take that long on this machine, when nothing disturbs it.
inline std::uint64_t rounds_of(std::chrono::nanoseconds work) {
    static const double rounds_per_ns = [] {
        constexpr std::uint64_t rounds = 1'000'000;
        double best = 0;
        for (int i = 0; i < 5; ++i) {
            timespec begin{}, end{};
            ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
            volatile std::uint64_t used = compute(rounds);
            static_cast<void>(used);
            ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
            const double ns = 1e9 * static_cast<double>(end.tv_sec - begin.tv_sec) +
                              static_cast<double>(end.tv_nsec - begin.tv_nsec);
            best = std::max(best, static_cast<double>(rounds) / ns);
        }
        return best;
    }();
    return static_cast<std::uint64_t>(rounds_per_ns * static_cast<double>(work.count()));
}

/// A line is a number of rounds; the answer is what they give.
inline magpie::task<> compute_lines(magpie::io::tcp_stream client) {
    client.set_nodelay(true);
    std::array<std::byte, 4096> buffer;
    std::string received, out;
    for (;;) {
        const auto n = co_await magpie::as_result(client.read(buffer));
        if (!n || *n == 0)
            co_return;
        received.append(reinterpret_cast<const char*>(buffer.data()), *n);
        std::size_t at = 0;
        for (std::size_t end; (end = received.find('\n', at)) != std::string::npos; at = end + 1) {
            std::uint64_t rounds = 0;
            std::from_chars(received.data() + at, received.data() + end, rounds);
            out += std::to_string(compute(std::min<std::uint64_t>(rounds, 1'000'000'000))) + '\n';
            co_await magpie::consume_budget(); // work that does not wait lets others run as well
        }
        received.erase(0, at);
        if (received.size() > 64)
            co_return; // no number is that long
        const auto sent = co_await magpie::as_result(client.write_all(std::as_bytes(std::span(out))));
        if (!sent)
            co_return;
        out.clear();
    }
}

/// A service that computes for each request: 20 us, unless the load wishes otherwise.
inline compared cpu() {
    traffic says = lines("");
    says.request = [](std::string& out, const traffic::wish& w) {
        const auto work = w.work.count() > 0 ? w.work : std::chrono::microseconds(20);
        out += std::to_string(rounds_of(work)) + '\n';
    };
    return {"cpu", [] { return compute_lines; }, says};
}

} // namespace layouts
