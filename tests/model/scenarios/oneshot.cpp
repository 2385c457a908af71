// A oneshot: a send against a receiver that closes and then looks, and against one that finds the value without
// the lock and frees what both have shared.

#include "support.hpp"

#include <magpie/core/detail/lock_word.hpp>
#include <magpie/sync/oneshot.hpp>

#include <optional>
#include <utility>

namespace {

using namespace model_test;
namespace oneshot = magpie::sync::oneshot;

/// Its move is code of its own, so it is moved in outside the lock.
class message {
public:
    explicit message(int n) noexcept : number(n) {}
    message(message&& other) noexcept : number(std::exchange(other.number, 0)) {
        magpie_model::step("move", this, [] {});
    }
    message& operator=(message&&) = delete;
    ~message() {} // not trivial

    int number;
};

/// What the scenarios need of a oneshot, written once more with one line wrong.
enum class flaw : unsigned char {
    unclaimed,  ///< the sender does not say that a value is being moved in
    gone_early, ///< it says to be gone before it gives up its reference
};

template <flaw Flaw>
class small_oneshot {
public:
    bool send(message&& m) {
        bool wanted = false;
        bool last = false;
        {
            const guard locked(lock_);
            wanted = is_open_;
            is_coming_ = wanted && Flaw != flaw::unclaimed;
        }
        if (wanted)
            value_.emplace(std::move(m));
        {
            guard locked(lock_);
            is_coming_ = false;
            has_value_ = wanted;
            has_ended_ = true;
            locked.state.sole = Flaw == flaw::gone_early || references_ == 2;
            if (Flaw != flaw::gone_early)
                last = let_go();
        }
        if (Flaw == flaw::gone_early) {
            const guard locked(lock_);
            last = let_go();
        }
        if (last)
            delete this;
        return wanted;
    }

    void close() noexcept {
        const guard locked(lock_);
        is_open_ = false;
    }

    /// The value, 0 if none will come. The receiver goes.
    int receive() {
        for (;;) {
            if (const std::optional<int> got = look())
                return *got;
            magpie_model::yield();
        }
    }

private:
    std::optional<int> look() {
        bool last = lock_.load(std::memory_order_acquire).sole;
        std::optional<int> got;
        if (last) {
            got = take();
        } else {
            const guard locked(lock_);
            if (has_ended_ || (!is_open_ && !is_coming_))
                got = take();
            if (got)
                last = let_go();
        }
        if (last)
            delete this;
        return got;
    }

    struct view {
        bool sole = false; // the receiver alone will ever touch the state again
        bool has_lock = false;

        bool is_locked() const noexcept { return has_lock; }
        view locked() const noexcept { return {sole, true}; }
    };
    using lock_word = magpie::detail::lock_word<view>;
    using guard = typename lock_word::guard;

    bool let_go() noexcept { return --references_ == 0; }
    int take() noexcept { return has_value_ ? std::exchange(value_->number, 0) : 0; }

    lock_word lock_{view()};
    bool is_open_ = true;
    bool is_coming_ = false;
    bool has_value_ = false;
    bool has_ended_ = false;
    int references_ = 2;
    std::optional<message> value_;
};

template <flaw Flaw>
class flawed {
public:
    bool send(message&& m) { return state_->send(std::move(m)); }
    void close() { state_->close(); }
    int receive() { return state_->receive(); }

private:
    small_oneshot<Flaw>* const state_ = new small_oneshot<Flaw>;
};

class product {
public:
    product() {
        auto ends = oneshot::channel<message>();
        tx_.emplace(std::move(ends.tx));
        rx_.emplace(std::move(ends.rx));
    }

    bool send(message&& m) {
        const bool sent = static_cast<bool>(tx_->send(std::move(m)));
        tx_.reset();
        return sent;
    }
    void close() { rx_->close(); }
    int receive() {
        int got = 0;
        if (const auto m = rx_->blocking_recv())
            got = m->number;
        rx_.reset();
        return got;
    }

private:
    std::optional<oneshot::sender<message>> tx_;
    std::optional<oneshot::receiver<message>> rx_;
};

// --- closed as the value comes ---

template <class Oneshot>
void send_and_close() {
    Oneshot o;
    bool sent = false;
    int got = 0;
    thread("sender", [&] { sent = o.send(message(1)); });
    thread("receiver", [&] {
        o.close();
        got = o.receive();
    });
    run();
    check(sent == (got == 1),
          "a value that was sent is received, also behind a close; else it was refused");
}

scenario closed("oneshot.close", &send_and_close<product>);
mistake unclaimed(closed, "the sender moves its value in without saying that it comes",
                  &send_and_close<flawed<flaw::unclaimed>>);

// --- who finds the value frees what was shared ---

template <class Oneshot>
void send_and_receive() {
    Oneshot o;
    bool sent = false;
    int got = 0;
    thread("sender", [&] { sent = o.send(message(1)); });
    thread("receiver", [&] { got = o.receive(); });
    run();
    check(sent && got == 1, "the value arrives");
}

scenario received("oneshot.receive", &send_and_receive<product>);
mistake gone_early(received, "the sender says that it has gone before it gives up its reference",
                   &send_and_receive<flawed<flaw::gone_early>>);

} // namespace
