// Channels against a sequential model: scripts of sends and receives that succeed, wait, are dropped or fail.

#include "script.hpp"

#include <magpie/sync.hpp>

#include <test/counting.hpp>
#include <test/manual_executor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using magpie::join_handle;
using magpie::task;
using test::counting;
using test::require;

namespace ms = magpie::sync;

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();
constexpr std::size_t most_waiting = 6;

/// What became of a send or a receive.
struct outcome {
    bool ended = false;
    bool closed = false;
    int value = counting::moved;
};

template <class Sender>
task<> send(Sender to, int value, std::shared_ptr<outcome> into) {
    auto sent = co_await magpie::as_result(to.send(counting(value)));
    into->ended = true;
    if (!sent) {
        into->closed = sent.error().is_closed();
        into->value = std::move(sent).error().value().value(); // it comes back
    }
}

template <class Receiver>
task<> receive(Receiver& from, std::shared_ptr<outcome> into) {
    const std::optional<counting> got = co_await from.recv();
    into->ended = true;
    into->closed = !got;
    if (got)
        into->value = got->value();
}

/// A queue of a kind, and what it should be like.
template <class Endpoints, bool Waits, bool Tries, std::size_t Receivers>
class queue {
public:
    queue(Endpoints ends, std::size_t capacity) : capacity_(capacity) {
        tx_.emplace(std::move(ends.tx));
        rx_.emplace(std::move(ends.rx));
    }
    ~queue() {
        sends_.clear();
        receives_.clear();
        executor_.close();
        executor_.run_until_idle();
    }

    void try_send() {
        if (!tx_)
            return;
        const int v = next_++;
        auto value = std::make_unique<counting>(v);
        const ms::send_result r = [&] {
            if constexpr (Waits)
                return tx_->try_send(std::move(*value));
            else
                return tx_->send(std::move(*value));
        }();
        if (!rx_)
            require(r.is_closed(), "nobody receives: closed");
        else if (!receives_.empty() || (values_.size() < capacity_ && sends_.empty()))
            require(bool(r), "there is room");
        else
            require(r.is_full(), "there is none");
        require((value->value() == v) == !r, "what was not sent is the caller's");
        value.reset();
        executor_.run_until_idle();
        if (r)
            put(v);
        look();
    }

    void send_later() {
        if constexpr (Waits) {
            if (!tx_ || sends_.size() == most_waiting)
                return;
            const int v = next_++;
            auto result = std::make_shared<outcome>();
            auto h = executor_.spawn(send(*tx_, v, result));
            executor_.run_until_idle();
            if (!rx_) {
                require(result->ended && result->closed && result->value == v, "it comes back");
            } else if (!receives_.empty() || (values_.size() < capacity_ && sends_.empty())) {
                require(result->ended && result->value == counting::moved, "it is sent at once");
                put(v);
            } else {
                require(!result->ended, "it waits");
                sends_.push_back({v, result, std::move(h)});
            }
            look();
        }
    }

    void try_receive() {
        if constexpr (Tries) {
            if (!rx_ || !receives_.empty())
                return;
            const bool had_some = !values_.empty();
            {
                auto got = rx_->try_recv();
                if (had_some)
                    require(got && got->value() == values_.front(), "it is the oldest");
                else
                    require(!got && got.is_closed() == no_senders(), "there is none");
            }
            if (had_some)
                values_.pop_front();
            executor_.run_until_idle();
            refill();
            look();
        }
    }

    void receive_later() {
        if (!rx_ || receives_.size() == Receivers)
            return;
        auto result = std::make_shared<outcome>();
        auto h = executor_.spawn(receive(*rx_, result));
        executor_.run_until_idle();
        if (!values_.empty()) {
            require(result->ended && result->value == values_.front(), "it is the oldest");
            values_.pop_front();
            refill();
        } else if (!sends_.empty()) { // a rendezvous
            require(result->ended && result->value == sends_.front().value,
                    "who waits longest gives it");
            require(sends_.front().result->ended && !sends_.front().result->closed, "and has given it");
            sends_.pop_front();
        } else if (no_senders()) {
            require(result->ended && result->closed, "there will be none");
        } else {
            require(!result->ended, "it waits");
            receives_.push_back({0, result, std::move(h)});
        }
        look();
    }

    void drop_send(std::size_t i) {
        if (i >= sends_.size())
            return;
        const auto at = sends_.begin() + static_cast<std::ptrdiff_t>(i);
        at->handle.abort();
        executor_.run_until_idle();
        require(!at->result->ended && at->handle.is_finished(), "what is dropped sends nothing");
        sends_.erase(at);
        end_receives();
        look();
    }
    void drop_receive(std::size_t i) {
        if (i >= receives_.size())
            return;
        const auto at = receives_.begin() + static_cast<std::ptrdiff_t>(i);
        at->handle.abort();
        executor_.run_until_idle();
        require(!at->result->ended && at->handle.is_finished(), "what is dropped takes nothing");
        receives_.erase(at);
        look();
    }

    void drop_sender() {
        tx_.reset();
        executor_.run_until_idle();
        end_receives();
        look();
    }
    void drop_receiver() {
        if (!rx_ || !receives_.empty()) // they use it
            return;
        rx_.reset();
        executor_.run_until_idle();
        values_.clear();
        for (const auto& s : sends_)
            require(s.result->ended && s.result->closed && s.result->value == s.value, "it comes back");
        sends_.clear();
        look();
    }

private:
    struct waiting {
        int value;
        std::shared_ptr<outcome> result;
        join_handle<> handle;
    };

    bool no_senders() const { return !tx_ && sends_.empty(); }

    /// A value has come in.
    void put(int v) {
        if (receives_.empty()) {
            values_.push_back(v);
            return;
        }
        require(receives_.front().result->ended && receives_.front().result->value == v,
                "who waits longest gets it");
        receives_.pop_front();
    }
    /// A place is free.
    void refill() {
        if (sends_.empty() || capacity_ == 0)
            return;
        require(sends_.front().result->ended && !sends_.front().result->closed,
                "who waits longest sends");
        values_.push_back(sends_.front().value);
        sends_.pop_front();
        if (no_senders())
            end_receives();
    }
    void end_receives() {
        if (!no_senders() || !values_.empty())
            return;
        for (const auto& r : receives_)
            require(r.result->ended && r.result->closed, "there will be none");
        receives_.clear();
    }
    void look() const {
        for (const auto& s : sends_)
            require(!s.result->ended, "nobody sends out of turn");
        for (const auto& r : receives_)
            require(!r.result->ended, "nobody receives out of turn");
        require(counting::alive() == static_cast<int>(values_.size() + sends_.size()),
                "each value is in the channel, or with who waits");
    }

    using sender = decltype(Endpoints::tx);
    using receiver = decltype(Endpoints::rx);

    test::manual_executor executor_;
    const std::size_t capacity_;
    std::optional<sender> tx_;
    std::optional<receiver> rx_;
    int next_ = 0;
    std::deque<int> values_;
    std::deque<waiting> sends_;
    std::deque<waiting> receives_;
};

template <class Queue>
void run(Queue& q, test::script& s) {
    while (!s.over()) {
        switch (s.below(12)) {
        case 0:
        case 1: q.try_send(); break;
        case 2:
        case 3: q.send_later(); break;
        case 4:
        case 5: q.try_receive(); break;
        case 6:
        case 7: q.receive_later(); break;
        case 8: q.drop_send(s.below(most_waiting)); break;
        case 9: q.drop_receive(s.below(most_waiting)); break;
        case 10:
            if (s.below(8) == 0)
                q.drop_sender();
            break;
        default:
            if (s.below(8) == 0)
                q.drop_receiver();
        }
    }
}

/// Every receiver sees every value, or hears how many it has missed.
void run_broadcast(std::size_t capacity, test::script& s) {
    auto ends = ms::broadcast::channel<int>(capacity);
    std::vector<std::pair<ms::broadcast::receiver<int>, std::uint64_t>> receivers; // and what is next
    receivers.emplace_back(std::move(ends.rx), 0);
    std::uint64_t sent = 0;
    while (!s.over()) {
        switch (s.below(4)) {
        case 0:
        case 1: {
            const ms::send_result r = ends.tx.try_send(static_cast<int>(sent));
            require(bool(r) == !receivers.empty(), "a broadcast takes each value that somebody hears");
            sent += r ? 1 : 0;
            break;
        }
        case 2: {
            if (receivers.empty())
                break;
            auto& [rx, next] = receivers[s.below(receivers.size())];
            auto got = rx.try_recv();
            const std::uint64_t oldest = sent > capacity ? sent - capacity : 0;
            if (next < oldest) {
                require(!got && got.missed() == oldest - next, "it hears how many it has missed");
                next = oldest;
            } else if (next == sent) {
                require(!got && got.is_empty(), "there is none yet");
            } else {
                require(got && *got == static_cast<int>(next), "each in its order");
                ++next;
            }
            break;
        }
        default:
            if (s.below(3) == 0 && !receivers.empty())
                receivers.erase(receivers.begin() +
                                static_cast<std::ptrdiff_t>(s.below(receivers.size())));
            else if (receivers.size() < 5)
                receivers.emplace_back(ends.tx.subscribe(), sent);
        }
    }
}

void run_watch(test::script& s) {
    auto ends = ms::watch::channel(0);
    std::vector<ms::watch::receiver<int>> receivers;
    receivers.push_back(std::move(ends.rx));
    int value = 0;
    while (!s.over()) {
        switch (s.below(4)) {
        case 0: {
            const ms::send_result r = ends.tx.send(value + 1);
            require(bool(r) == !receivers.empty(), "a watch takes what somebody sees");
            value += r ? 1 : 0;
            break;
        }
        case 1:
            if (!receivers.empty()) {
                const auto seen = receivers[s.below(receivers.size())].borrow();
                require(*seen == value, "the latest");
            }
            break;
        case 2:
            if (!receivers.empty())
                receivers.erase(receivers.begin() +
                                static_cast<std::ptrdiff_t>(s.below(receivers.size())));
            break;
        default:
            if (receivers.size() < 5)
                receivers.push_back(ends.tx.subscribe());
        }
        require(*ends.tx.borrow() == value, "the latest");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    test::script s(data, std::min<std::size_t>(size, 1024));
    const std::size_t kind = s.below(6);
    const std::size_t capacity = 1 + s.below(5);
    counting::reset();
    switch (kind) {
    case 0: {
        queue<ms::mpsc::endpoints<counting>, true, true, 1> q(ms::mpsc::channel<counting>(capacity),
                                                              capacity);
        run(q, s);
        break;
    }
    case 1: {
        queue<ms::mpmc::endpoints<counting>, true, true, most_waiting> q(
            ms::mpmc::channel<counting>(capacity), capacity);
        run(q, s);
        break;
    }
    case 2: {
        auto ends = ms::mpmc::unbounded_channel<counting>();
        queue<decltype(ends), false, true, most_waiting> q(std::move(ends), no_limit);
        run(q, s);
        break;
    }
    case 3: {
        queue<ms::rendezvous::endpoints<counting>, true, false, most_waiting> q(
            ms::rendezvous::channel<counting>(), 0);
        run(q, s);
        break;
    }
    case 4: run_broadcast(capacity, s); break;
    default: run_watch(s);
    }
    require(counting::alive() == 0, "no value outlives its channel");
    return 0;
}
