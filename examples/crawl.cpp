// Finds the dead links of a web site. Each page is asked for at all mirrors at once, the first answer is
// taken; what fails is tried again a few times; eight pages are visited at a time, in parallel.
//
//     crawl [HOST:PORT ...]     the mirrors of one site
//
// Without any it serves a small site itself, at two mirrors, one slow, the other one out of order at times.

#include <magpie/magpie.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace io = magpie::io;
using magpie::task;
using magpie::task_scope;
using namespace std::chrono_literals;
using mirrors = std::vector<io::endpoint>;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

// ---- the client --------------------------------------------------------------------------------------

/// What a mirror answers to the request for a page: all of it.
task<std::string> ask(io::endpoint mirror, std::string path) {
    auto stream = co_await io::tcp_stream::connect(mirror);
    const std::string request = "GET " + path + " HTTP/1.0\r\nHost: " + mirror.to_string() + "\r\n\r\n";
    co_await stream.write_all(bytes_of(request));
    std::string answer;
    std::array<char, 4096> part;
    for (;;) {
        const std::size_t n = co_await stream.read(std::as_writable_bytes(std::span(part)));
        if (n == 0)
            break;
        answer.append(part.data(), n);
    }
    if (!answer.starts_with("HTTP/1."))
        throw std::runtime_error("no answer");
    co_return answer;
}

/// The answer of the mirror that is fastest. The other requests are dropped.
task<std::string> ask_all(const mirrors& all, std::string path) {
    auto race = [&](magpie::first_success_scope<std::string>& s) -> task<> {
        for (const io::endpoint& mirror : all)
            s.spawn(ask(mirror, path));
        co_return;
    };
    co_return co_await magpie::scope(magpie::first_success<std::string>, race);
}

/// The links of a page, which is asked for again if no mirror answers.
task<> visit(const mirrors& all, std::string path, std::set<std::string>& links) {
    auto once = [&] { return ask_all(all, path); };
    const auto policy = magpie::restart_policy().back_off(10ms, 2, 1s).jitter(0.5).limit(4, 1min);
    const std::string answer = co_await magpie::supervise(once, policy);
    if (answer.substr(8, 4) != " 200")
        throw std::runtime_error("there is no such page");
    constexpr std::string_view mark = "href=\"/"; // links to the site itself
    for (std::size_t at = answer.find(mark); at != std::string::npos; at = answer.find(mark, at)) {
        at += mark.size() - 1;
        links.insert(answer.substr(at, answer.find('"', at) - at));
    }
}

/// Visits what can be reached. Gives how many links are dead.
task<std::size_t> crawl(const mirrors& all) {
    auto check = [&](const io::endpoint& mirror) { return ask(mirror, "/"); };
    co_await magpie::for_each_concurrent(all, 8, check); // throws if one of them does not answer

    std::set<std::string> seen{"/"};
    std::vector<std::string> round(seen.begin(), seen.end());
    std::size_t dead = 0;
    while (!round.empty()) {
        std::vector<std::set<std::string>> links(round.size()); // each task has one of its own
        auto visit_round = [&](task_scope& s) -> task<> {
            for (std::size_t i = 0; i < round.size(); ++i) {
                auto page = visit(all, round[i], links[i]);
                co_await s.spawn_when_free(round[i], std::move(page)); // named after the page
            }
        };
        const auto r = co_await as_result(magpie::scope(magpie::collect_all.limit(8), visit_round));
        for (const magpie::task_failure& f : r.failures())
            std::printf("%s: %s\n", f.task_name.c_str(),
                        std::string(magpie::describe(f.error)).c_str());
        dead += r.failures().size();
        round.clear();
        for (const auto& of_page : links)
            for (const std::string& link : of_page)
                if (seen.insert(link).second)
                    round.push_back(link);
    }
    std::printf("%zu pages, %zu dead links\n", seen.size() - dead, dead);
    co_return dead;
}

// ---- a site of its own -------------------------------------------------------------------------------

const std::map<std::string, std::string, std::less<>> site{
    {"/", R"(<a href="/news">news</a> <a href="/shop">shop</a>)"},
    {"/news", R"(<a href="/">home</a> <a href="/news/1">one</a> <a href="/news/2">two</a>)"},
    {"/news/1", R"(<a href="/news">back</a> <a href="/lost">more</a>)"},
    {"/news/2", R"(<a href="/news">back</a> <a href="https://example.org/">elsewhere</a>)"},
    {"/shop", R"(<a href="/">home</a> <a href="/basket">basket</a>)"},
};

task<> answer_one(io::tcp_stream stream, magpie::clock::duration delay) {
    std::string request;
    while (!request.ends_with("\r\n\r\n")) {
        std::array<char, 512> part;
        const std::size_t n = co_await stream.read(std::as_writable_bytes(std::span(part)));
        if (n == 0)
            co_return;
        request.append(part.data(), n);
    }
    co_await magpie::sleep_for(delay);
    const std::string_view path = std::string_view(request).substr(4, request.find(' ', 4) - 4);
    const auto page = site.find(path);
    const std::string answer = page != site.end() ? "HTTP/1.0 200 OK\r\n\r\n" + page->second
                                                  : std::string("HTTP/1.0 404 Not Found\r\n\r\n");
    co_await stream.write_all(bytes_of(answer));
}

/// Who has hung up meanwhile does not end the server.
task<> answer(io::tcp_stream stream, magpie::clock::duration delay) {
    static_cast<void>(co_await as_result(answer_one(std::move(stream), delay)));
}

/// Serves until it is dropped. Each third connection is closed at once, if it is `out_of_order`.
task<> serve(io::tcp_listener listener, magpie::clock::duration delay, bool out_of_order) {
    auto accept_all = [&](task_scope& connections) -> task<> {
        for (unsigned n = 1;; ++n) {
            io::accepted client = co_await listener.accept();
            if (!out_of_order || n % 3 != 0)
                connections.spawn(answer(std::move(client.stream), delay));
        }
    };
    co_await magpie::scope(accept_all); // dropped, it drops the connections
}

task<std::size_t> crawl_own_site() {
    auto with_servers = [](task_scope& servers) -> task<std::size_t> {
        mirrors all;
        for (const bool slow : {true, false}) {
            auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
            all.push_back(listener.local_endpoint());
            servers.spawn(serve(std::move(listener), slow ? 5ms : 0ms, !slow));
        }
        const std::size_t dead = co_await crawl(all);
        servers.abort_all(); // else the scope would wait for them
        co_return dead;
    };
    co_return co_await magpie::scope(with_servers);
}

task<mirrors> look_up(std::string name) { co_return co_await io::resolve(name); }

task<std::size_t> crawl_at(std::vector<std::string> names) {
    const std::vector<mirrors> found = co_await magpie::map_concurrent(names, 8, look_up);
    mirrors all;
    for (const mirrors& of_name : found)
        all.insert(all.end(), of_name.begin(), of_name.end());
    co_return co_await crawl(all);
}

} // namespace

int main(int argc, char** argv) {
    try {
        if (argc > 1)
            return magpie::run(crawl_at(std::vector<std::string>(argv + 1, argv + argc))) == 0 ? 0 : 1;
        return magpie::run(crawl_own_site()) == 2 ? 0 : 1; // /lost and /basket
    } catch (const std::exception& e) {
        std::fprintf(stderr, "crawl: %s\n", e.what());
        return 2;
    }
}
