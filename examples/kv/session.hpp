#pragma once

#include "resp.hpp"

#include <magpie/magpie.hpp>

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

/// What a connection has sent and nobody has answered yet, in one piece.
class input_buffer {
public:
    /// Where the next bytes may be put. It grows only when one request needs all of it.
    std::span<std::byte> room() {
        if (begin_ == end_) {
            begin_ = end_ = 0;
            if (size_ > usual_size)
                replace(usual_size);
        } else if (end_ == size_) {
            replace(begin_ > 0 ? size_ : 2 * size_);
        }
        return {bytes_.get() + end_, size_ - end_};
    }
    void added(std::size_t n) noexcept { end_ += n; }
    void drop(std::size_t n) noexcept { begin_ += n; }
    std::string_view unread() const noexcept {
        return {reinterpret_cast<const char*>(bytes_.get()) + begin_, end_ - begin_};
    }

private:
    static constexpr std::size_t usual_size = 16'384;

    void replace(std::size_t size) {
        auto bytes = std::make_unique_for_overwrite<std::byte[]>(size);
        std::memcpy(bytes.get(), bytes_.get() + begin_, end_ - begin_);
        bytes_ = std::move(bytes);
        size_ = size;
        end_ -= begin_;
        begin_ = 0;
    }

    std::size_t size_ = usual_size;
    std::unique_ptr<std::byte[]> bytes_ = std::make_unique_for_overwrite<std::byte[]>(usual_size);
    std::size_t begin_ = 0; // of what is not answered yet
    std::size_t end_ = 0;
};

/// Answers a connection until it ends. Requests that came together are answered together, in one write.
///
/// A client that asks without reading its answers is not read from any more: it waits, and costs no memory.
///
/// @param requests  `add` answers one, or says that `finish` has to be awaited for it; what it has put off
///                  (`is_pending`) is finished before the answers are written
template <class Requests>
magpie::task<> serve(magpie::io::tcp_stream client, Requests requests) {
    constexpr std::size_t enough = 256 * 1024; // answers are not gathered beyond that
    using outcome = request_parser::outcome;
    client.set_nodelay(true);
    input_buffer input;
    request_parser parser;
    std::string out;
    for (;;) {
        const auto n = co_await magpie::as_result(client.read(input.room()));
        if (!n || *n == 0)
            co_return; // the client has gone
        input.added(*n);
        outcome found = outcome::incomplete;
        do {
            while (out.size() < enough && (found = parser.next(input.unread())) == outcome::request) {
                const bool answered = parser.arguments().empty() ||
                                      requests.add(parser.arguments(), out);
                input.drop(parser.size());
                if (!answered)
                    co_await requests.finish(out);
            }
            if (requests.is_pending())
                co_await requests.finish(out);
            if (found == outcome::malformed)
                add_error(out, "ERR Protocol error: " + std::string(parser.error()));
            if (!out.empty()) {
                const auto sent = co_await magpie::as_result(
                    client.write_all(std::as_bytes(std::span(out))));
                if (!sent || found == outcome::malformed)
                    co_return;
                if (out.capacity() > 2 * enough)
                    out = std::string();
                out.clear();
            }
        } while (found == outcome::request); // it was left off with enough to write
    }
}

} // namespace kv
