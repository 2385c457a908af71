#pragma once

#include "resp.hpp"
#include "table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kv {

/// An answer that is longer is not given: the client gets an error in its place.
inline constexpr std::size_t longest_answer = 64 * 1'048'576;

/// A request that was understood, key by key: where its keys are is not its business.
///
///     command c(arguments, out);
///     for (; !c.done(); c.apply(table_of(c.key()), out)) {}
///
/// All of it that does not concern a key, errors included, is answered by the constructor.
class command {
public:
    enum class verb : unsigned char { none, get, set, del, incr, mget };

    /// @param arguments  the name and what follows, not empty; they must outlive the command
    /// @param out        the answers so far; this one's is added
    command(std::span<const std::string_view> arguments, std::string& out)
        : arguments_(arguments), begin_(out.size()) {
        const std::string_view name = arguments.front();
        const std::size_t keys = arguments.size() - 1;
        if (is(name, "get") && has(keys == 1, out)) {
            begin(verb::get, 1);
        } else if (is(name, "set") && has(keys >= 2, out)) {
            if (keys > 2)
                add_error(out, "ERR syntax error: SET takes a key and a value, and no options here");
            else
                begin(verb::set, 1);
        } else if (is(name, "del") && has(keys >= 1, out)) {
            begin(verb::del, keys);
        } else if (is(name, "incr") && has(keys == 1, out)) {
            begin(verb::incr, 1);
        } else if (is(name, "mget") && has(keys >= 1, out)) {
            begin(verb::mget, keys);
            add_array(out, keys);
        } else if (is(name, "ping") && has(keys <= 1, out)) {
            keys == 0 ? add_status(out, "PONG") : add_bulk(out, arguments[1]);
        } else if (is(name, "command") || is(name, "config")) {
            known_ = true;
            add_array(out, 0); // redis-cli and redis-benchmark ask, and do without
        }
        if (!known_)
            add_error(out, "ERR unknown command '" + std::string(name.substr(0, 64)) + '\'');
    }

    bool done() const noexcept { return next_ == end_; }
    /// The next of its keys.
    std::string_view key() const noexcept { return arguments_[next_]; }

    /// What is to be done with each of its keys, and the value for it.
    verb what() const noexcept { return verb_; }
    std::string_view value() const noexcept {
        return verb_ == verb::set ? arguments_[2] : std::string_view();
    }

    /// Does what is asked with the next key, in the table that has it.
    void apply(table& where, const hashed_key& key, std::string& out) {
        if (verb_ == verb::del)
            deleted_ += where.erase(key) ? 1 : 0;
        else
            answer(verb_, where, key, value(), out);
        ++next_;
        if (verb_ == verb::del && done())
            add_integer(out, deleted_);
        if (out.size() - begin_ > longest_answer) {
            out.resize(begin_);
            add_too_long(out);
            next_ = end_;
        }
    }

    /// Leaves the next key to somebody else.
    void skip() noexcept { ++next_; }

    static void add_too_long(std::string& out) { add_error(out, "ERR the answer is too long"); }

    /// What a verb other than DEL answers for one key.
    static void answer(verb what, table& where, const hashed_key& key, std::string_view value,
                       std::string& out) {
        switch (what) {
        case verb::get:
        case verb::mget:
            if (const std::string* const found = where.find(key))
                add_bulk(out, *found);
            else
                add_null(out);
            break;
        case verb::set:
            where.set(key, value);
            add_status(out, "OK");
            break;
        case verb::incr:
            if (const auto n = where.increment(key))
                add_integer(out, *n);
            else
                add_error(out, "ERR value is not an integer or out of range");
            break;
        case verb::del:
        case verb::none: break;
        }
    }

private:
    static bool is(std::string_view name, std::string_view lower) noexcept {
        return name.size() == lower.size() &&
               std::equal(name.begin(), name.end(), lower.begin(), [](char a, char b) {
                   return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b;
               });
    }

    /// Whether the number of arguments is right; else it is answered.
    bool has(bool right, std::string& out) {
        known_ = true;
        if (!right)
            add_error(out, "ERR wrong number of arguments for '" + std::string(arguments_.front()) +
                               "' command");
        return right;
    }

    void begin(verb what, std::size_t keys) noexcept {
        verb_ = what;
        next_ = 1;
        end_ = 1 + keys;
    }

    std::span<const std::string_view> arguments_;
    std::size_t begin_; // of its answer
    std::size_t next_ = 0;
    std::size_t end_ = 0;
    std::int64_t deleted_ = 0;
    verb verb_ = verb::none;
    bool known_ = false;
};

} // namespace kv
