#include <magpie/core/log.hpp>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

// Puts spdlog behind the logging hook of core. The only file that knows spdlog.

namespace magpie::detail {

namespace {

void to_spdlog(log_level level, std::string_view text) noexcept {
    static constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info,
                                                           spdlog::level::warn, spdlog::level::err,
                                                           spdlog::level::critical};
    try {
        // The user's logger of that name, or one of ours: standard output belongs to the program.
        std::shared_ptr<spdlog::logger> to = spdlog::get("magpie");
        if (to == nullptr)
            to = spdlog::stderr_color_mt("magpie");
        to->log(levels[static_cast<unsigned>(level)], spdlog::string_view_t(text.data(), text.size()));
    } catch (...) { // spdlog reports its own trouble; there is nowhere left to tell
    }
}

} // namespace

/// Once, unless the user has set a sink of his own before the first runtime was made.
void install_spdlog() noexcept {
    static const bool installed = [] {
        const log_function before = set_log_function(&to_spdlog);
        if (before != default_log_function())
            set_log_function(before);
        return true;
    }();
    static_cast<void>(installed);
}

} // namespace magpie::detail
