#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace kv {

/// A key with its hash, which is made once: it chooses the table, and the place in it.
class hashed_key {
public:
    explicit hashed_key(std::string_view key) noexcept
        : hashed_key(key, std::hash<std::string_view>()(key)) {}
    hashed_key(std::string_view key, std::size_t h) noexcept : text(key), hash(h) {}

    std::string_view text;
    std::size_t hash;
};

/// Keys and their values, any bytes.
class table {
public:
    /// The value, or nullptr. It stays where it is until the table is written to.
    const std::string* find(const hashed_key& key) const {
        const auto found = entries_.find(key);
        return found == entries_.end() ? nullptr : &found->second;
    }

    void set(const hashed_key& key, std::string_view value) {
        const auto found = entries_.find(key);
        if (found == entries_.end())
            entries_.emplace(key.text, value);
        else
            found->second = value;
    }

    /// Whether it was there.
    bool erase(const hashed_key& key) {
        const auto found = entries_.find(key);
        if (found == entries_.end())
            return false;
        entries_.erase(found);
        return true;
    }

    /// Adds 1 to a value, which is 0 if there is none. Nothing if it is no number, or already the largest.
    std::optional<std::int64_t> increment(const hashed_key& key) {
        std::int64_t n = 0;
        if (const std::string* const value = find(key)) {
            const char* const end = value->data() + value->size();
            const auto [stop, e] = std::from_chars(value->data(), end, n);
            if (e != std::errc() || stop != end || n == std::numeric_limits<std::int64_t>::max())
                return std::nullopt;
        }
        char text[24];
        ++n;
        set(key, {text, std::to_chars(text, text + sizeof text, n).ptr});
        return n;
    }

    std::size_t size() const noexcept { return entries_.size(); }

private:
    struct hash {
        using is_transparent = void;
        std::size_t operator()(const hashed_key& key) const noexcept { return key.hash; }
        std::size_t operator()(std::string_view key) const noexcept { return hashed_key(key).hash; }
    };
    struct equal {
        using is_transparent = void;
        bool operator()(std::string_view a, std::string_view b) const noexcept { return a == b; }
        bool operator()(std::string_view a, const hashed_key& b) const noexcept { return a == b.text; }
        bool operator()(const hashed_key& a, std::string_view b) const noexcept { return a.text == b; }
    };

    std::unordered_map<std::string, std::string, hash, equal> entries_;
};

} // namespace kv
