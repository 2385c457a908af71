#pragma once

#include "command.hpp"
#include "resp.hpp"
#include "shared_store.hpp"

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
inline magpie::task<> serve(magpie::io::tcp_stream client, shared_store& store) {
    constexpr std::size_t enough = 256 * 1024; // answers are not gathered beyond that
    client.set_nodelay(true);
    input_buffer input;
    request_parser parser;
    std::string out;
    for (;;) {
        const auto n = co_await magpie::as_result(client.read(input.room()));
        if (!n || *n == 0)
            co_return; // the client has gone
        input.added(*n);
        auto found = request_parser::outcome::incomplete;
        while ((found = parser.next(input.unread())) == request_parser::outcome::request) {
            if (!parser.arguments().empty()) {
                command c(parser.arguments(), out);
                while (shared_store::stripe* const taken = store.advance(c, out)) {
                    auto held = co_await taken->lock();
                    shared_store::apply(held, c, out);
                }
            }
            input.drop(parser.size());
            if (out.size() >= enough) {
                const auto sent = co_await magpie::as_result(
                    client.write_all(std::as_bytes(std::span(out))));
                if (!sent)
                    co_return;
                out = std::string();
            }
        }
        if (found == request_parser::outcome::malformed)
            add_error(out, "ERR Protocol error: " + std::string(parser.error()));
        if (!out.empty()) {
            const auto sent = co_await magpie::as_result(
                client.write_all(std::as_bytes(std::span(out))));
            if (!sent || found == request_parser::outcome::malformed)
                co_return;
            out.clear();
        }
    }
}

} // namespace kv
