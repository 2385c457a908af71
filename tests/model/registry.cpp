#include "explorer.hpp"

#include <cstring>
#include <utility>

namespace magpie_model {

namespace {
scenario* first = nullptr;
} // namespace

scenario::scenario(const char* n, bounds b, void (*f)()) : name(n), limits(b), body(f) {
    scenario** at = &first;
    while (*at != nullptr && std::strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    next = std::exchange(*at, this);
}

mistake::mistake(scenario& s, const char* w, spoiled h, void (*b)()) : what(w), how(h), body(b) {
    mistake** at = &s.mistakes;
    while (*at != nullptr)
        at = &(*at)->next;
    *at = this;
}

scenario* all_scenarios() noexcept { return first; }

} // namespace magpie_model
