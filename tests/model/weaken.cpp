#include "weaken.hpp"

#include "engine.hpp"
#include "memory.hpp"

#include <array>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

namespace magpie_model {

namespace {

using order = std::memory_order;

struct raw_site { // as the compiler gives it: the pointers are the same each time, or nearly so
    const char* file;
    unsigned line;
    unsigned column;
    const char* what;
    bool on_failure;
    order given;

    auto operator<=>(const raw_site&) const = default;
};

bool noting = false;
std::set<raw_site> noted;
std::optional<std::pair<order_site, order>> weakened;

// Nothing for what is no part of the product.
std::string file_of(const char* path) {
    const std::string_view p = path;
    for (const std::string_view component : {"core", "scheduler", "sync", "io"})
        for (const std::string_view folder : {"include", "src"}) {
            const std::string in = std::string(component) + "/" + std::string(folder) + "/";
            if (const std::size_t at = p.rfind("/" + in); at != p.npos)
                return std::string(p.substr(at + 1));
        }
    return {};
}

} // namespace

const char* name_of(order o) noexcept {
    switch (o) {
    case order::relaxed: return "relaxed";
    case order::consume: return "consume";
    case order::acquire: return "acquire";
    case order::release: return "release";
    case order::acq_rel: return "acq_rel";
    default: return "seq_cst";
    }
}

std::vector<order> weaker(const order_site& s) {
    switch (static_cast<order>(s.order)) {
    case order::seq_cst:
        return {s.what == "load" || s.on_failure ? order::acquire
                : s.what == "store"              ? order::release
                                                 : order::acq_rel};
    case order::acq_rel: return {order::acquire, order::release};
    case order::acquire:
    case order::release: return {order::relaxed};
    default: return {};
    }
}

void note_orders() noexcept { noting = true; }

void print_orders(std::FILE* to) {
    for (const raw_site& s : noted)
        if (const std::string file = file_of(s.file); !file.empty())
            std::fprintf(to, "%s %u %u %s %d %d\n", file.c_str(), s.line, s.column, s.what,
                         s.on_failure ? 1 : 0, static_cast<int>(s.given));
}

std::optional<order_site> parse_order(const std::string& line) {
    order_site s;
    std::istringstream words(line);
    words >> s.file >> s.line >> s.column >> s.what >> s.on_failure >> s.order;
    return words ? std::optional(s) : std::nullopt;
}

void weaken(const order_site& s, order to) { weakened.emplace(s, to); }

order order_of(const char* what, order given, bool on_failure, const source& at) {
    if (noting) {
        const memory::counting ours(false);
        noted.insert({at.file_name(), at.line(), at.column(), what, on_failure, given});
    }
    if (weakened && at.line() == weakened->first.line && at.column() == weakened->first.column &&
        on_failure == weakened->first.on_failure && weakened->first.what == what &&
        given == static_cast<order>(weakened->first.order) && // one line may stand for several calls
        std::string_view(at.file_name()).ends_with(weakened->first.file)) {
        note_weakened();
        return weakened->second;
    }
    return given;
}

} // namespace magpie_model
