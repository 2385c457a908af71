#pragma once

#include "explorer.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace magpie_model {

/// What a thread is about to do.
struct operation {
    const char* what;
    const void* object;
    source at;
    std::string_view type = {}; // of the object
    const char* order = "";
};

/// What it did.
struct trace_line {
    const char* thread;
    operation done;
    std::optional<std::uint64_t> seen = {};
    std::optional<std::uint64_t> written = {};
    const char* note = "";
    std::size_t from = 0; // the step that stored what was seen; 0: it was there before
};

/// The steps of one execution. Always kept: whatever fails can be shown.
class trace {
public:
    void clear() noexcept { lines_.clear(), names_.clear(); }
    void add(const char* thread, const operation& o) { lines_.push_back({thread, o}); }
    void name(const void* object, std::size_t size, std::string_view name);

    trace_line& last() noexcept { return lines_.back(); }
    std::size_t size() const noexcept { return lines_.size(); }

    void print(std::FILE* to) const;
    std::string describe(const void* address) const;

private:
    struct named_object {
        const void* begin;
        std::size_t size;
        std::string name;
    };

    void print(const trace_line& l, std::size_t number, std::FILE* to) const;
    std::string describe(std::uint64_t value) const;

    std::vector<trace_line> lines_;
    std::vector<named_object> names_;
};

/// "file.cpp:12", without the folders.
std::string place_of(const source& at);

} // namespace magpie_model
