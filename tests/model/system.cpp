// What the scheduler asks of the system, for a model build: threads, a watch, a log.

#include "engine.hpp"

#include <magpie_model/system_thread.hpp>
#undef thread

#include <scheduler/src/watch.hpp>

#include <exception>

namespace magpie_model {

// --- threads ---

system_thread::system_thread(std::function<void()> body) {
    await_turn({"make thread", nullptr, source::current()});
    number_ = begin_thread("thread", std::move(body));
    others_may_go();
}

bool system_thread::id::operator==(std::thread::id) const noexcept {
    return number_ == current_thread();
}

system_thread& system_thread::operator=(system_thread&& other) noexcept {
    if (joinable())
        std::terminate();
    number_ = std::exchange(other.number_, 0);
    return *this;
}

system_thread::~system_thread() {
    if (joinable())
        std::terminate();
}

void system_thread::join() {
    const auto ended = [](const void* self) {
        return has_ended(static_cast<const system_thread*>(self)->number_);
    };
    await_turn({"join thread", nullptr, source::current()}, ended, this);
    now().join(at_end_of(number_));
    number_ = 0;
}

} // namespace magpie_model

namespace magpie::detail {

// --- the watch: it never goes off by itself, so it makes up for no wake-up that was lost ---

namespace {
futex gone_off; // of the one runtime that a scenario has
bool in_use = false;
} // namespace

watch_timer::watch_timer(bool used) {
    in_use = used;
    gone_off.word.store(0, std::memory_order_relaxed);
}
watch_timer::~watch_timer() = default;

bool watch_timer::try_occupy() noexcept {
    return in_use && !occupied_.exchange(true, std::memory_order_seq_cst);
}
void watch_timer::vacate() noexcept { occupied_.store(false, std::memory_order_seq_cst); }

void watch_timer::sleep(clock::time_point) noexcept {
    if (gone_off.word.exchange(0, std::memory_order_acquire) == 0) {
        gone_off.wait(0);
        gone_off.word.store(0, std::memory_order_relaxed);
    }
}
void watch_timer::wake() noexcept {
    gone_off.word.store(1, std::memory_order_release);
    futex::wake(&gone_off, 1);
}
void watch_timer::set() noexcept {}
void watch_timer::unset() noexcept {}

// --- the log: main.cpp listens to it ---

void install_spdlog() noexcept {}

} // namespace magpie::detail
