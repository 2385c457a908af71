#include "load.hpp"

#include "zipf.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace layouts {
namespace {
using std::chrono::nanoseconds;
using clock = load::clock;

// For answers that are late, at the end. In an open loop there may be many, which nobody waits for; in a closed
// loop there are few, and a service that does not give them is broken, not without a core.
constexpr nanoseconds grace = std::chrono::seconds(2);
constexpr nanoseconds grace_of_closed_loop = std::chrono::seconds(30);

int checked(int result, const char* call) {
    if (result < 0)
        throw std::system_error(errno, std::generic_category(), call);
    return result;
}

class file {
public:
    explicit file(int fd) noexcept : fd_(fd) {}
    file(file&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    file& operator=(file&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~file() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    int get() const noexcept { return fd_; }

private:
    int fd_;
};

file connect_to(std::uint16_t port) {
    file s(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    checked(::connect(s.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
    const int on = 1;
    checked(::setsockopt(s.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    // A reset at the end: thousands of ports in TIME_WAIT would be in the next run's way.
    const linger reset{.l_onoff = 1, .l_linger = 0};
    checked(::setsockopt(s.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
    return s;
}

/// Requests that were sent together.
struct batch {
    clock::time_point begun; // what their latencies count from
    std::size_t unanswered;
    std::size_t bytes;
};

struct connection {
    explicit connection(file s) noexcept : socket(std::move(s)) {}

    file socket;
    std::deque<batch> under_way;
    std::deque<clock::time_point> waiting; // batches for which there is no room yet
    std::string received;                  // what is no whole answer
    std::size_t bytes_under_way = 0;
    std::size_t requests = 0; // on this socket
    bool broken = false;
};
} // namespace

class load::engine {
public:
    explicit engine(load& l)
        : load_(l), options_(l.options_),
          epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")), random_(l.seed_),
          keys_(key_count, l.options_.key_skew),
          choice_(l.options_.connections, l.options_.connection_skew) {
        ::prctl(PR_SET_TIMERSLACK, 1UL); // ns; a wait ends when it should
        for (std::size_t i = 0; i < options_.connections; ++i) {
            connections_.emplace_back(connect_to(load_.port_));
            watch(i);
        }
    }

    load_result run() {
        while ((now_ = clock::now()) < load_.begin_)
            wait(load_.begin_);
        if (!is_open())
            for (std::size_t i = 0; i < connections_.size(); ++i)
                begin_batch(choose(), now_);
        while (!has_ended()) {
            auto wake = now_ + std::chrono::milliseconds(10); // to see the end in time
            if (is_open()) {
                for (; intended(begun_) <= now_; ++begun_) {
                    begin_batch(choose(), intended(begun_));
                    if (is_in_window(intended(begun_)))
                        note_measured(); // answered or not
                }
                wake = std::min(wake, intended(begun_));
            }
            wait(wake);
        }
        ended_ = true;
        await_the_late();
        return std::move(result_);
    }

private:
    bool is_open() const noexcept { return options_.rate > 0; }
    bool has_ended() const noexcept {
        return now_.time_since_epoch().count() >= load_.window_end_.load(std::memory_order_relaxed);
    }
    bool is_in_window(clock::time_point t) const noexcept {
        const auto at = t.time_since_epoch().count();
        return at >= load_.window_begin_.load(std::memory_order_relaxed) &&
               at < load_.window_end_.load(std::memory_order_relaxed);
    }

    void note_measured() noexcept { load_.measured_.store(true, std::memory_order_relaxed); }

    clock::time_point intended(std::uint64_t batch) const {
        const std::chrono::duration<double> after(static_cast<double>(batch * options_.pipeline) /
                                                  options_.rate);
        return load_.begin_ + std::chrono::duration_cast<nanoseconds>(after);
    }

    std::size_t choose() {
        return choice_.is_uniform() ? turn_++ % connections_.size() : choice_(random_);
    }

    void begin_batch(std::size_t index, clock::time_point begun) {
        connection& c = connections_[index];
        if (c.broken) { // the others go on; who waits for this one waits in vain
            c.waiting.push_back(begun);
            return;
        }
        const bool worn = options_.per_connection > 0 && c.requests >= options_.per_connection;
        // There is room for one always, for several if they are small.
        const bool full = !c.under_way.empty() && c.bytes_under_way * 2 > most_under_way;
        if (full || (worn && !c.under_way.empty())) {
            c.waiting.push_back(begun);
            return;
        }
        if (worn && !renew(index))
            return;
        text_.clear();
        for (std::size_t i = 0; i < options_.pipeline; ++i)
            load_.traffic_.request(text_, {.key = keys_(random_), .work = options_.work});
        c.under_way.push_back({begun, options_.pipeline, text_.size()});
        c.bytes_under_way += text_.size();
        c.requests += options_.pipeline;
        if (::send(c.socket.get(), text_.data(), text_.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(text_.size()))
            give_up(index, "send: " + std::generic_category().message(errno));
    }

    bool renew(std::size_t index) {
        connection& c = connections_[index];
        try {
            c.socket = connect_to(load_.port_); // the old one goes with the temporary
        } catch (const std::system_error& e) {
            give_up(index, e.what());
            return false;
        }
        c.requests = 0;
        watch(index);
        return true;
    }

    void watch(std::size_t index) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = index;
        checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connections_[index].socket.get(), &event),
                "epoll_ctl");
    }

    void wait(clock::time_point until) {
        const auto left = std::max(nanoseconds(until - now_), nanoseconds(0));
        const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
        const timespec timeout{.tv_sec = whole.count(), .tv_nsec = (left - whole).count()};
        std::array<epoll_event, 64> events;
        const int count = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                         &timeout, nullptr);
        now_ = clock::now();
        if (count < 0 && errno == EINTR)
            return;
        checked(count, "epoll_pwait2");
        for (int i = 0; i < count; ++i)
            receive(events[static_cast<std::size_t>(i)].data.u64);
    }

    void receive(std::size_t index) {
        connection& c = connections_[index];
        const auto got = ::recv(c.socket.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            give_up(index, got == 0 ? "the service has closed the connection"
                                    : "recv: " + std::generic_category().message(errno));
            return;
        }
        now_ = clock::now();
        c.received.append(buffer_.data(), static_cast<std::size_t>(got));
        std::string_view left = c.received;
        while (!left.empty()) {
            const traffic::answer a = load_.traffic_.find(left);
            if (a.is == traffic::verdict::incomplete)
                break;
            if (a.is == traffic::verdict::wrong || c.under_way.empty()) {
                give_up(index, "an answer is wrong");
                return;
            }
            left.remove_prefix(a.size);
            answered(index);
        }
        c.received.erase(0, c.received.size() - left.size());
    }

    void answered(std::size_t index) {
        connection& c = connections_[index];
        batch& b = c.under_way.front();
        const auto at = is_open() ? b.begun : now_; // what is slow must not hide behind the end
        if (is_in_window(at)) {
            result_.latencies.add(now_ - b.begun);
            note_measured();
        }
        if (!ended_)
            load_.answered_.store(load_.answered_.load(std::memory_order_relaxed) + 1,
                                  std::memory_order_relaxed);
        if (--b.unanswered > 0)
            return;
        c.bytes_under_way -= b.bytes;
        c.under_way.pop_front();
        if (!c.waiting.empty()) {
            const auto begun = c.waiting.front();
            c.waiting.pop_front();
            begin_batch(index, begun);
        }
        if (!is_open() && !ended_)
            begin_batch(choose(), now_);
    }

    /// A connection that is broken, or answered wrongly, is left alone.
    void give_up(std::size_t index, const std::string& why) {
        connection& c = connections_[index];
        if (c.broken)
            return;
        c.broken = true;
        if (result_.errors++ == 0)
            result_.first_error = why;
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, c.socket.get(), nullptr);
    }

    void await_the_late() {
        const auto pending = [this] {
            return std::any_of(connections_.begin(), connections_.end(), [](const connection& c) {
                return !c.broken && !(c.under_way.empty() && c.waiting.empty());
            });
        };
        const auto until = now_ + (is_open() ? grace : grace_of_closed_loop);
        while (now_ < until && pending())
            wait(until);
        for (const connection& c : connections_) {
            for (const batch& b : c.under_way)
                count_late(b.begun, b.unanswered);
            for (const auto begun : c.waiting)
                count_late(begun, options_.pipeline);
        }
    }

    /// In an open loop what was not answered counts with what it has waited, as far as it began in the
    /// window; in a closed loop a service that does not answer is broken.
    void count_late(clock::time_point begun, std::size_t requests) {
        if (!is_open()) {
            if (result_.errors++ == 0)
                result_.first_error = "no answer within half a minute after the end";
        } else if (is_in_window(begun)) {
            result_.latencies.add(now_ - begun, requests);
            result_.unanswered += requests;
        }
    }

    load& load_;
    const load_options& options_;
    file epoll_;
    std::minstd_rand random_;
    zipf keys_, choice_;
    std::deque<connection> connections_;
    clock::time_point now_;
    std::uint64_t begun_ = 0; // batches of an open loop
    std::size_t turn_ = 0;
    bool ended_ = false;
    std::string text_;
    std::array<char, 65'536> buffer_;
    load_result result_;
};

load_result load::run() {
    const auto e = std::make_unique<engine>(*this); // too large for a stack
    return e->run();
}

} // namespace layouts
