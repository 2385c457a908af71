#include "echo.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace load {
namespace {
using bench::clock;
using std::chrono::nanoseconds;
using message = std::array<char, 64>;

constexpr nanoseconds grace = std::chrono::seconds(1); // for answers that are late, at the end

int checked(int result, const char* call) {
    if (result < 0)
        throw std::system_error(errno, std::generic_category(), call);
    return result;
}

nanoseconds cpu_time(const std::vector<pid_t>& processes) {
    nanoseconds sum{};
    for (const auto pid : processes) {
        clockid_t id{};
        timespec t{};
        if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) != 0)
            throw std::runtime_error("process " + std::to_string(pid) + " is gone, or was never there");
        sum += std::chrono::seconds(t.tv_sec) + nanoseconds(t.tv_nsec);
    }
    return sum;
}

class connection {
public:
    connection(std::uint16_t port, std::uint32_t number)
        : fd_(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
        std::memcpy(sent_.data(), &number, sizeof number); // its own: another's answer is found out
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        checked(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
        const int on = 1;
        checked(::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
        // A reset at the end: thousands of ports in TIME_WAIT would be in the next run's way.
        const linger reset{.l_onoff = 1, .l_linger = 0};
        checked(::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
    }
    connection(connection&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), sent_(other.sent_), begun_(other.begun_) {}
    ~connection() {
        if (fd_ >= 0)
            ::close(fd_);
    }

    int fd() const { return fd_; }

    /// Waits for the byte by which a server says which of its shards has the connection.
    std::size_t shard() const {
        unsigned char number = 0;
        if (::recv(fd_, &number, sizeof number, 0) != sizeof number)
            throw std::runtime_error("the server does not say which of its shards has a connection");
        return number;
    }

    bool is_busy() const { return begun_.has_value(); }

    /// Sends a message that counts from `begun`. False if the server is gone.
    bool send(clock::time_point begun) {
        begun_ = begun;
        got_ = 0;
        ++sent_[sizeof(std::uint32_t)]; // not the same as before
        return ::send(fd_, sent_.data(), sent_.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(sent_.size());
    }

    enum class outcome { partial, answered, failed };

    outcome receive() {
        const auto got = ::recv(fd_, received_.data() + got_, received_.size() - got_, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return outcome::partial;
        if (got <= 0 || !is_busy())
            return outcome::failed;
        got_ += static_cast<std::size_t>(got);
        if (got_ < received_.size())
            return outcome::partial;
        return received_ == sent_ ? outcome::answered : outcome::failed;
    }

    /// When the message that was answered counts from.
    clock::time_point finish() {
        const auto begun = *begun_;
        begun_.reset();
        return begun;
    }

private:
    int fd_;
    message sent_{};
    message received_{};
    std::size_t got_ = 0;
    std::optional<clock::time_point> begun_;
};

class echo_load {
public:
    explicit echo_load(const echo_options& options)
        : options_(options), of_shard_(options.shards), due_(options.connections),
          set_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
        for (std::uint32_t i = 0; i < options.connections; ++i) {
            connections_.push_back(connect(i));
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.u32 = i;
            checked(::epoll_ctl(set_, EPOLL_CTL_ADD, connections_.back().fd(), &event), "epoll_ctl");
        }
        latencies_.reserve(1'000'000);
        bench::set_finest_timer_slack();
    }
    echo_load(const echo_load&) = delete;
    ~echo_load() { ::close(set_); }

    echo_result run() {
        start_ = now_ = clock::now();
        begin_ = start_ + options_.warm_up;
        end_ = begin_ + options_.window;
        if (!paced())
            for (std::uint32_t i = 0; i < connections_.size(); ++i)
                send(i, now_);
        run_until(begin_);
        const auto cpu = cpu_time(options_.server);
        const auto own_cpu = cpu_time({::getpid()});
        measured_from_ = now_;
        run_until(end_);
        echo_result result;
        result.sample.cpu_seconds =
            std::chrono::duration<double>(cpu_time(options_.server) - cpu).count();
        result.sample.seconds = std::chrono::duration<double>(now_ - measured_from_).count();
        result.sample.ops = answered_;
        const std::chrono::duration<double> own = cpu_time({::getpid()}) - own_cpu;
        result.sample.add("load_cpu_seconds", own.count());
        if (paced())
            await_the_late();
        if (latencies_.empty())
            throw std::runtime_error("nothing was answered within the window");
        result.sample.add_percentiles(std::move(latencies_));
        result.errors = errors_;
        return result;
    }

private:
    connection connect(std::uint32_t number) {
        if (options_.shards == 0)
            return connection(options_.port, number);
        // Which shard gets it is chance; one that has enough already does without.
        const std::size_t enough = (options_.connections + options_.shards - 1) / options_.shards;
        for (;;) {
            connection made(options_.port, number);
            std::size_t& has = of_shard_.at(made.shard());
            if (has < enough) {
                ++has;
                return made;
            }
        }
    }

    bool paced() const { return options_.rate > 0; }

    /// When request `index` of all is to begin. Connections take turns.
    clock::time_point intended(std::uint64_t index) const {
        const std::chrono::duration<double> after(static_cast<double>(index) / options_.rate);
        return start_ + std::chrono::duration_cast<nanoseconds>(after);
    }

    void run_until(clock::time_point until) {
        while (now_ < until) {
            auto wake = until;
            if (paced()) {
                for (; intended(begun_) <= now_; ++begun_)
                    take_turn(static_cast<std::uint32_t>(begun_ % connections_.size()));
                wake = std::min(until, intended(begun_));
            }
            wait(wake);
        }
    }

    /// Requests that began in the window count also when the answer comes after it.
    void await_the_late() {
        const auto until = now_ + grace;
        while (now_ < until && under_way() > 0)
            wait(until);
        errors_ += under_way();
    }

    std::uint64_t under_way() const {
        std::uint64_t count = 0;
        for (std::size_t i = 0; i < connections_.size(); ++i)
            count += due_[i].waiting + (connections_[i].is_busy() ? 1 : 0);
        return count;
    }

    void wait(clock::time_point until) {
        const auto left = std::max(nanoseconds(until - now_), nanoseconds(0));
        const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
        const timespec timeout{.tv_sec = whole.count(), .tv_nsec = (left - whole).count()};
        std::array<epoll_event, 64> events;
        const int count = ::epoll_pwait2(set_, events.data(), static_cast<int>(events.size()), &timeout,
                                         nullptr);
        now_ = clock::now();
        if (count < 0 && errno == EINTR)
            return;
        checked(count, "epoll_pwait2");
        for (int i = 0; i < count; ++i)
            receive(events[static_cast<std::size_t>(i)].data.u32);
    }

    void receive(std::uint32_t index) {
        auto& from = connections_[index];
        switch (from.receive()) {
        case connection::outcome::partial: return;
        case connection::outcome::failed: give_up(index); return;
        case connection::outcome::answered: break;
        }
        now_ = clock::now();
        const auto begun = from.finish();
        if (now_ >= begin_ && now_ < end_)
            ++answered_;
        // An open loop counts what began in the window, else what is slow would hide at its end.
        const auto at = paced() ? begun : now_;
        if (at >= begin_ && at < end_)
            latencies_.push_back(now_ - begun);
        if (!paced()) {
            send(index, now_);
        } else if (due_[index].waiting > 0) {
            --due_[index].waiting;
            send_next(index);
        }
    }

    void take_turn(std::uint32_t index) {
        if (connections_[index].is_busy())
            ++due_[index].waiting;
        else
            send_next(index);
    }

    void send_next(std::uint32_t index) {
        send(index, intended(due_[index].sent++ * connections_.size() + index));
    }

    void send(std::uint32_t index, clock::time_point begun) {
        if (!connections_[index].send(begun))
            give_up(index);
    }

    /// The connection is broken or its answer wrong: it stays busy and is not looked at again.
    void give_up(std::uint32_t index) {
        ++errors_;
        ::epoll_ctl(set_, EPOLL_CTL_DEL, connections_[index].fd(), nullptr);
    }

    struct turns {
        std::uint64_t sent = 0;
        std::uint64_t waiting = 0; // for an earlier one's answer
    };

    const echo_options& options_;
    std::vector<std::size_t> of_shard_; // how many connections each has
    std::vector<connection> connections_;
    std::vector<turns> due_; // of each connection, in an open loop
    int set_;
    clock::time_point start_, begin_, end_;
    clock::time_point now_;           // as of the last look
    clock::time_point measured_from_; // begin_, but for how late the look was
    std::uint64_t begun_ = 0;         // of an open loop's requests
    std::uint64_t answered_ = 0;
    std::uint64_t errors_ = 0;
    std::vector<nanoseconds> latencies_;
};
} // namespace

echo_result echo(const echo_options& options) { return echo_load(options).run(); }
} // namespace load
