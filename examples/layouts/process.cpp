#include "process.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace layouts {
namespace {

constexpr std::chrono::seconds patience(30); // for a process to begin, to answer, or to end

[[noreturn]] void failed(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

std::array<int, 2> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        failed("pipe");
    return ends;
}

nlohmann::ordered_json usage_of(const magpie::runtime& rt) {
    timespec cpu{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const magpie::runtime_metrics done = rt.metrics();
    std::uint64_t steals = 0;
    std::uint64_t messages = 0;
    std::vector<double> busy;
    for (const magpie::worker_metrics& w : done.workers) {
        steals += w.steals;
        messages += w.messages;
        busy.push_back(std::chrono::duration<double>(w.busy).count());
    }
    return {{"cpu_s", static_cast<double>(cpu.tv_sec) + 1e-9 * static_cast<double>(cpu.tv_nsec)},
            {"switches", used.ru_nvcsw + used.ru_nivcsw},
            {"steals", steals},
            {"messages", messages},
            {"busy_s", busy}};
}

/// A line for who has started this process. A worker says the first one, the thread that is asked the others.
void say(const std::string& message) {
    static std::mutex one_at_a_time;
    const std::lock_guard guard(one_at_a_time);
    std::cout << message << std::endl;
}

magpie::task<> serve_until(const compared& service, magpie::sync::event& stop) {
    const auto at = co_await example::start_service(magpie::io::endpoint::loopback_v4(0), service.make,
                                                    service.name);
    say(nlohmann::json{{"port", at.port()}}.dump());
    co_await stop.wait();
}

} // namespace

int serve(const compared& service, const std::string& layout, std::size_t workers) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // nobody would end it then
    magpie::sync::event stop;
    magpie::runtime_builder builder;
    builder.layout(example::layout_named(layout).layout).worker_threads(workers);
    const magpie::runtime rt = builder.build();
    std::thread control([&] {
        std::string line;
        while (std::getline(std::cin, line))
            say(usage_of(rt).dump());
        stop.set();
    });
    try {
        rt.block_on(serve_until(service, stop));
    } catch (const std::exception& e) {
        std::cerr << service.name << ": " << e.what() << std::endl;
        std::_Exit(EXIT_FAILURE); // `control` waits for the end of standard input
    }
    control.join();
    return EXIT_SUCCESS;
}

service_process::service_process(const std::string& service, const std::string& layout,
                                 std::size_t workers) {
    const auto in = make_pipe();
    const auto out = make_pipe();
    const std::string count = std::to_string(workers);
    std::array<std::string, 8> words{"magpie-layouts", "--serve",   service, "--layouts",
                                     layout,           "--workers", count,   ""};
    std::array<char*, 8> arguments{};
    for (std::size_t i = 0; i + 1 < words.size(); ++i)
        arguments[i] = words[i].data();
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    const int error = ::posix_spawn(&pid_, "/proc/self/exe", &files, nullptr, arguments.data(),
                                    environ);
    ::posix_spawn_file_actions_destroy(&files);
    ::close(in[0]);
    ::close(out[1]);
    to_ = in[1];
    from_ = out[0];
    if (error != 0)
        throw std::system_error(error, std::generic_category(), "posix_spawn");
    try {
        port_ = nlohmann::json::parse(read_line()).at("port").get<std::uint16_t>();
    } catch (...) {
        end();
        throw;
    }
}

service_process::~service_process() { end(); }

void service_process::end() noexcept {
    if (to_ >= 0)
        ::close(to_);
    if (from_ >= 0)
        ::close(from_);
    if (pid_ <= 0)
        return;
    const auto until = std::chrono::steady_clock::now() + patience;
    while (::waitpid(pid_, nullptr, WNOHANG) == 0) {
        if (std::chrono::steady_clock::now() > until)
            ::kill(pid_, SIGKILL);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

usage service_process::used() {
    if (::write(to_, "\n", 1) != 1)
        failed("the service's process is gone");
    const nlohmann::json line = nlohmann::json::parse(read_line());
    usage u;
    u.cpu_seconds = line.at("cpu_s");
    u.switches = line.at("switches");
    u.steals = line.at("steals");
    u.messages = line.at("messages");
    u.busy_seconds = line.at("busy_s").get<std::vector<double>>();
    return u;
}

std::string service_process::read_line() {
    for (;;) {
        if (const auto end = received_.find('\n'); end != std::string::npos) {
            std::string line = received_.substr(0, end);
            received_.erase(0, end + 1);
            if (line.starts_with('{')) // a runtime may log before it
                return line;
            continue;
        }
        pollfd readable{.fd = from_, .events = POLLIN, .revents = 0};
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
        std::array<char, 4096> buffer;
        ssize_t got = 0;
        if (::poll(&readable, 1, static_cast<int>(ms)) == 1)
            got = ::read(from_, buffer.data(), buffer.size());
        if (got <= 0)
            throw std::runtime_error("the service's process does not answer, or has ended");
        received_.append(buffer.data(), static_cast<std::size_t>(got));
    }
}

// ---- counters of the system --------------------------------------------------------------------------

call_counter::call_counter(pid_t process) {
    std::uint64_t event = 0;
    for (const char* const folder : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}) {
        std::ifstream id(std::string(folder) + "/events/raw_syscalls/sys_enter/id");
        if (id >> event)
            break;
    }
    if (event == 0)
        return;
    perf_event_attr attributes{};
    attributes.type = PERF_TYPE_TRACEPOINT;
    attributes.size = sizeof attributes;
    attributes.config = event;
    std::error_code gone;
    const std::string threads = "/proc/" + std::to_string(process) + "/task";
    for (const auto& thread : std::filesystem::directory_iterator(threads, gone)) {
        const auto id = static_cast<pid_t>(std::stol(thread.path().filename().string()));
        const long fd = ::syscall(SYS_perf_event_open, &attributes, id, -1, -1, PERF_FLAG_FD_CLOEXEC);
        if (fd < 0) { // a sum without one of them would be wrong
            for (const int counter : std::exchange(counters_, {}))
                ::close(counter);
            return;
        }
        counters_.push_back(static_cast<int>(fd));
    }
}

call_counter::~call_counter() {
    for (const int counter : counters_)
        ::close(counter);
}

std::optional<std::uint64_t> call_counter::count() const {
    if (counters_.empty())
        return std::nullopt;
    std::uint64_t sum = 0;
    for (const int counter : counters_) {
        std::uint64_t n = 0;
        if (::read(counter, &n, sizeof n) != sizeof n)
            return std::nullopt;
        sum += n;
    }
    return sum;
}

std::vector<processor_use::ticks> processor_use::read() {
    std::vector<ticks> all;
    std::ifstream file("/proc/stat");
    std::string line;
    while (std::getline(file, line) && line.starts_with("cpu")) {
        std::istringstream words(line);
        std::string name;
        words >> name;
        if (name == "cpu")
            continue; // the sum
        ticks t;
        std::uint64_t n = 0;
        for (int column = 0; column < 8 && words >> n; ++column) { // user ... steal
            t.all += n;
            if (column != 3 && column != 4) // idle, and idle with a disk under way
                t.busy += n;
        }
        all.push_back(t);
    }
    return all;
}

std::vector<double> processor_use::since_last() {
    const std::vector<ticks> now = read();
    std::vector<double> shares;
    for (std::size_t i = 0; i < now.size() && i < before_.size(); ++i) {
        const auto all = static_cast<double>(now[i].all - before_[i].all);
        shares.push_back(all > 0 ? static_cast<double>(now[i].busy - before_[i].busy) / all : 0);
    }
    before_ = now;
    return shares;
}

} // namespace layouts
