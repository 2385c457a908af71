#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// The Redis protocol, version 2: requests are read, and answers are written.

namespace kv {

/// What a request may be at most. What comes behind one that is larger cannot be told from it, so its
/// connection is closed.
struct limits {
    std::size_t arguments = 1024;     ///< of a request, its name included
    std::size_t argument = 1'048'576; ///< bytes of one of them
    std::size_t request = 4'194'304;  ///< bytes in all
    std::size_t line = 4096;          ///< bytes of a request that is a line of words
};

/// Finds the requests in a stream of bytes that comes in any pieces.
///
/// A request is an array of strings with their lengths (`*1\r\n$4\r\nPING\r\n`), which may have any
/// bytes, or a line of words, as one types it. It remembers how far it has looked at one that is not
/// complete: each byte is looked at once, in however many pieces they come.
class request_parser {
public:
    enum class outcome {
        request,    ///< `arguments()` are its name and what follows; none if it is to be ignored
        incomplete, ///< there has to be more behind the same bytes
        malformed,  ///< `error()` says why; nothing behind it can be understood
    };

    explicit request_parser(const limits& most = limits()) noexcept : most_(most) {}

    /// Looks for a request at the beginning of `input`. After `incomplete` that has to begin with the
    /// same bytes, wherever they stand now.
    outcome next(std::string_view input) {
        input_ = input;
        if (at_ == 0) {
            if (input.empty())
                return outcome::incomplete;
            places_.clear();
            if (input.front() != '*')
                return words();
            if (const outcome o = begin_array(); o != outcome::request)
                return o;
        }
        for (; expected_ > 0; --expected_)
            if (const outcome o = next_argument(); o != outcome::request)
                return o;
        return complete();
    }

    /// Of the request that was found: they point into its input.
    std::span<const std::string_view> arguments() const noexcept { return arguments_; }
    /// How many bytes of the input it was.
    std::size_t size() const noexcept { return size_; }
    std::string_view error() const noexcept { return error_; }

private:
    struct place {
        std::size_t offset, size;
    };

    outcome malformed(std::string_view why) noexcept {
        error_ = why;
        return outcome::malformed;
    }

    outcome complete() {
        arguments_.clear();
        for (const place p : places_)
            arguments_.push_back(input_.substr(p.offset, p.size));
        size_ = at_;
        at_ = 0;
        return outcome::request;
    }

    /// Reads "<number>\r\n" at `at`, and puts `at` behind it.
    outcome number(std::size_t& at, std::int64_t& n, std::string_view error) noexcept {
        constexpr std::size_t longest = 22; // of a number of 64 bits, with its sign and end
        const char* const begin = input_.data() + at;
        const char* const end = input_.data() + input_.size();
        const auto [stop, e] = std::from_chars(begin, end, n);
        if (e != std::errc()) {
            const std::string_view begun(begin, end);
            return begun.empty() || begun == "-" ? outcome::incomplete : malformed(error);
        }
        if (end - stop < 2) {
            const bool ends_well = stop == end || *stop == '\r';
            return ends_well && input_.size() - at < longest ? outcome::incomplete : malformed(error);
        }
        if (stop[0] != '\r' || stop[1] != '\n')
            return malformed(error);
        at = static_cast<std::size_t>(stop + 2 - input_.data());
        return outcome::request;
    }

    outcome begin_array() noexcept {
        std::size_t at = 1;
        std::int64_t count = 0;
        if (const outcome o = number(at, count, "invalid multibulk length"); o != outcome::request)
            return o;
        if (count > static_cast<std::int64_t>(most_.arguments))
            return malformed("too many arguments");
        expected_ = count > 0 ? static_cast<std::size_t>(count) : 0;
        at_ = at;
        return outcome::request;
    }

    outcome next_argument() {
        std::size_t at = at_;
        if (at == input_.size())
            return outcome::incomplete;
        if (input_[at] != '$')
            return malformed("expected '$'");
        std::int64_t length = 0;
        if (const outcome o = number(++at, length, "invalid bulk length"); o != outcome::request)
            return o;
        if (length < 0)
            return malformed("invalid bulk length");
        const auto size = static_cast<std::size_t>(length);
        if (size > most_.argument)
            return malformed("argument is too large");
        if (at + size + 2 > most_.request)
            return malformed("request is too large");
        const std::size_t end = at + size;
        if (input_.size() >= end + 2 && input_[end] == '\r' && input_[end + 1] == '\n') {
            places_.push_back({at, size});
            at_ = end + 2;
            return outcome::request;
        }
        const bool ends_well = input_.size() <= end ||
                               (input_[end] == '\r' &&
                                (input_.size() == end + 1 || input_[end + 1] == '\n'));
        return ends_well ? outcome::incomplete
                         : malformed("an argument is longer than its length says");
    }

    outcome words() {
        // Lines are short: to look at one again when more of it has come costs little.
        const std::size_t end = input_.substr(0, most_.line).find('\n');
        if (end == std::string_view::npos)
            return input_.size() < most_.line ? outcome::incomplete
                                              : malformed("too big inline request");
        constexpr std::string_view blank = " \t\r";
        for (std::size_t i = input_.find_first_not_of(blank); i < end;) {
            const std::size_t stop = input_.find_first_of(" \t\r\n", i);
            if (places_.size() == most_.arguments)
                return malformed("too many arguments");
            places_.push_back({i, stop - i});
            i = input_.find_first_not_of(blank, stop);
        }
        at_ = end + 1;
        return complete();
    }

    limits most_;
    std::string_view input_;
    std::size_t at_ = 0;        // where the next argument begins; 0: between requests
    std::size_t expected_ = 0;  // arguments that are still to come
    std::vector<place> places_; // of those that are there: the input may move
    std::vector<std::string_view> arguments_;
    std::size_t size_ = 0;
    std::string_view error_;
};

// ---- answers -----------------------------------------------------------------------------------------

inline void add_number(std::string& out, char kind, std::int64_t n) {
    char text[24];
    text[0] = kind;
    char* const end = std::to_chars(text + 1, text + 22, n).ptr;
    end[0] = '\r';
    end[1] = '\n';
    out.append(text, static_cast<std::size_t>(end + 2 - text));
}

/// A status: `text` has no line end.
inline void add_status(std::string& out, std::string_view text) {
    out += '+';
    out += text;
    out += "\r\n";
}

/// An error: what could end the line is replaced, since it may quote a client.
inline void add_error(std::string& out, std::string_view text) {
    out += '-';
    for (const char c : text)
        out += c == '\r' || c == '\n' ? ' ' : c;
    out += "\r\n";
}

inline void add_integer(std::string& out, std::int64_t n) { add_number(out, ':', n); }
inline void add_array(std::string& out, std::size_t size) {
    add_number(out, '*', static_cast<std::int64_t>(size));
}
inline void add_null(std::string& out) { out += "$-1\r\n"; }
inline void add_bulk(std::string& out, std::string_view bytes) {
    add_number(out, '$', static_cast<std::int64_t>(bytes.size()));
    out += bytes;
    out += "\r\n";
}

} // namespace kv
