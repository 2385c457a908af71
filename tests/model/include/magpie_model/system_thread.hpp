#pragma once

#include <functional>
#include <thread>
#include <utility>

// The seam has no threads: blocking_pool makes std::thread, which a model build has to replace before
// the pool's header is read. From here on `thread` is another name; who includes the pool's header
// by hand undefines it right behind (scenarios/scheduler.hpp).

namespace magpie_model {

/// A thread of the explorer with as much of std::thread as the pool uses.
class system_thread {
public:
    class id {
    public:
        explicit id(unsigned number) noexcept : number_(number) {}
        /// `std::this_thread::get_id()` is the same everywhere: it stands for who asks.
        bool operator==(std::thread::id) const noexcept;

    private:
        unsigned number_;
    };

    static unsigned hardware_concurrency() noexcept { return 2; }

    system_thread() noexcept = default;
    explicit system_thread(std::function<void()> body);
    system_thread(system_thread&& other) noexcept : number_(std::exchange(other.number_, 0)) {}
    system_thread& operator=(system_thread&& other) noexcept;
    ~system_thread();

    bool joinable() const noexcept { return number_ != 0; }
    id get_id() const noexcept { return id(number_); }
    void join();
    void detach() noexcept { number_ = 0; }

private:
    unsigned number_ = 0; // 0: none
};

} // namespace magpie_model

namespace std { // NOLINT: a name that no library has
using magpie_model_thread = ::magpie_model::system_thread;
} // namespace std

#define thread magpie_model_thread
