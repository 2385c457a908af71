#include "trace.hpp"

#include "memory.hpp"

#include <algorithm>

namespace magpie_model {

namespace {

constexpr std::size_t most_lines = 500;     // of one that has no end, the last ones
constexpr std::uint64_t numbers = 1U << 16; // a value below is a number to the reader, else a pointer

// "virtual void magpie::strand::push(node &)" becomes "magpie::strand::push".
std::string function_of(const source& at) {
    std::string_view f = at.function_name();
    f = f.substr(0, f.find('('));
    return std::string(f.substr(f.rfind(' ') + 1)); // npos + 1 is 0
}

} // namespace

std::string place_of(const source& at) {
    const std::string_view file = at.file_name();
    return std::string(file.substr(file.rfind('/') + 1)) + ":" + std::to_string(at.line());
}

void trace::name(const void* object, std::size_t size, std::string_view name) {
    names_.push_back({object, size, std::string(name)});
}

void trace::print(std::FILE* to) const {
    for (std::size_t i = lines_.size() - std::min(lines_.size(), most_lines); i < lines_.size(); ++i)
        print(lines_[i], i + 1, to);
}

void trace::print(const trace_line& l, std::size_t number, std::FILE* to) const {
    std::string text = l.done.what;
    if (*l.done.order != '\0')
        text.append(" ").append(l.done.order);
    if (l.done.object != nullptr)
        text.append("  ").append(describe(l.done.object));
    if (!l.done.type.empty())
        text.append(" (").append(l.done.type).append(")");
    if (l.seen || l.written)
        text += ":";
    if (l.seen)
        text.append(" ").append(describe(*l.seen));
    if (l.from != 0)
        text.append(" (of ").append(std::to_string(l.from)).append(")");
    if (l.written)
        text.append(" -> ").append(describe(*l.written));
    text += l.note;
    std::fprintf(to, "%4zu  %-10s %s  [%s, %s]\n", number, l.thread, text.c_str(),
                 function_of(l.done.at).c_str(), place_of(l.done.at).c_str());
}

std::string trace::describe(const void* address) const {
    for (auto o = names_.rbegin(); o != names_.rend(); ++o) { // the last one of that place
        const std::ptrdiff_t into = static_cast<const char*>(address) -
                                    static_cast<const char*>(o->begin);
        if (into >= 0 && into < static_cast<std::ptrdiff_t>(o->size))
            return into == 0 ? o->name : o->name + "+" + std::to_string(into);
    }
    char text[32];
    if (const std::ptrdiff_t offset = memory::offset(address); offset >= 0)
        std::snprintf(text, sizeof text, "heap+%td", offset);
    else
        std::snprintf(text, sizeof text, "%p", address);
    return text;
}

std::string trace::describe(std::uint64_t value) const {
    return value < numbers ? std::to_string(value) : describe(reinterpret_cast<const void*>(value));
}

} // namespace magpie_model
