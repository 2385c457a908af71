#include "machine.hpp"

#include "../model/fiber.hpp"
#include "frames.hpp"

#include <magpie/core/detail/thread_state.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <sys/mman.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace magpie_machine {

namespace {

using magpie_model::fiber;

constexpr std::size_t stack_bytes = 256 * 1024;
constexpr std::size_t line_bytes = 64;
constexpr std::int32_t nobody = -1;

[[noreturn]] void give_up(const char* why) noexcept {
    std::fprintf(stderr, "magpie-machine: %s\n", why);
    std::fflush(nullptr);
    std::_Exit(2);
}

// --- lines ---

struct line {
    std::uintptr_t number = 0; // address / 64; 0: an empty place of the table
    std::int32_t writer = nobody;
    std::uint32_t holders = 0; // how many cores have it; more than one: to read only
    picoseconds free_at = 0;   // when the transfer under way has ended
    std::uint64_t fetches = 0;
    picoseconds queueing = 0;
    std::bitset<most_cores> held;
};

class line_table {
public:
    line& operator[](std::uintptr_t number) {
        if (2 * used_ >= places_.size())
            grow();
        line& l = place_of(number);
        if (l.number == 0) {
            l.number = number;
            ++used_;
        }
        return l;
    }
    void clear() {
        places_.assign(std::size_t{1} << 14, line());
        used_ = 0;
    }
    std::vector<line>& all() noexcept { return places_; }
    const std::vector<line>& all() const noexcept { return places_; }

private:
    line& place_of(std::uintptr_t number) noexcept {
        std::size_t i = number * 0x9E3779B97F4A7C15ULL >> 20;
        for (;; ++i) {
            line& l = places_[i & (places_.size() - 1)];
            if (l.number == number || l.number == 0)
                return l;
        }
    }
    void grow() {
        std::vector<line> before(2 * places_.size());
        before.swap(places_);
        for (const line& l : before)
            if (l.number != 0)
                place_of(l.number) = l;
    }

    std::vector<line> places_ = std::vector<line>(std::size_t{1} << 14);
    std::size_t used_ = 0;
};

// --- cores ---

struct a_core {
    std::size_t number = 0;
    std::unique_ptr<fiber> context;
    std::function<void()> body;
    bool ended = true;
    picoseconds time = 0;
    std::uint64_t turn = 0; // what an event has to name to be for it: changes whenever it goes on
    bool asleep = false;
    bool woken = false;
    magpie::detail::thread_state state;
    std::vector<std::byte> frames;
};

struct event {
    picoseconds time;
    std::uint64_t sequence; // of two at the same time the earlier made
    a_core* core;           // null: a device's
    std::uint64_t turn;     // of the core, or the number of what is to be called
};
struct later {
    bool operator()(const event& a, const event& b) const noexcept {
        return a.time != b.time ? a.time > b.time : a.sequence > b.sequence;
    }
};

class machine {
public:
    machine() {
        cores_.emplace_back();
        running_ = &cores_.front();
        running_->context = std::make_unique<fiber>();
        running_->ended = false;
        running_->time = millisecond;
        running_->frames.resize(frame_lists().size());
    }

    a_core& running() noexcept { return *running_; }

    void begin(const costs& c, std::uint64_t seed) {
        for (const a_core& one : cores_)
            if (&one != running_ && !one.ended)
                give_up("a run begins while threads of the last one live");
        cost = c;
        random_ = seed * 2 + 1;
        lines.clear();
        names_.clear();
        done = counts();
    }

    // --- time ---

    void push(picoseconds time, a_core* core, std::uint64_t turn) {
        events_.push_back({time, ++sequence_, core, turn});
        std::push_heap(events_.begin(), events_.end(), later());
    }

    void at(picoseconds when, std::function<void()> f) {
        const std::uint64_t number = ++calls_made_;
        calls_.emplace(number, std::move(f));
        push(when, nullptr, number);
    }

    /// Lets those go first that are behind.
    void let_others_go() {
        a_core& me = *running_;
        if (events_.empty() || events_.front().time >= me.time)
            return;
        push(me.time, &me, me.turn);
        go_on();
    }

    /// Leaves the running core, which has an event or is to be woken.
    void go_on() {
        a_core& next = take_next();
        if (&next == running_)
            return;
        a_core& me = *running_;
        me.state = magpie::detail::this_thread();
        const std::span<std::byte> lists = frame_lists();
        std::copy(lists.begin(), lists.end(), me.frames.begin());
        running_ = &next;
        magpie::detail::this_thread() = next.state;
        std::copy(next.frames.begin(), next.frames.end(), lists.begin());
        me.context->switch_to(*next.context);
    }

    bool sleep_on(std::initializer_list<const void*> addresses, picoseconds deadline) {
        a_core& me = *running_;
        ++done.sleeps;
        for (const void* a : addresses)
            sleepers_[a].push_back(&me);
        if (deadline != never)
            push(std::max(deadline, me.time) + cost.wake_latency, &me, me.turn);
        me.asleep = true;
        me.woken = false;
        go_on();
        me.asleep = false;
        for (const void* a : addresses) {
            const auto list = sleepers_.find(a);
            if (list == sleepers_.end())
                continue;
            std::erase(list->second, &me);
            if (list->second.empty())
                sleepers_.erase(list);
        }
        return me.woken;
    }

    std::size_t wake_sleepers(const void* address, std::size_t count, picoseconds when) {
        const auto list = sleepers_.find(address);
        if (list == sleepers_.end())
            return 0;
        std::size_t n = 0;
        for (a_core* c : list->second) {
            if (n == count)
                break;
            if (c->woken)
                continue;
            c->woken = true;
            ++c->turn; // its deadline is void
            push(std::max(when, c->time) + cost.wake_latency, c, c->turn);
            ++n;
        }
        done.wakes += n;
        return n;
    }

    // --- lines ---

    void reach(std::uintptr_t address, access a, bool plain) {
        a_core& me = *running_;
        const auto my = static_cast<std::int32_t>(me.number);
        const bool write = a != access::load;
        line& l = lines[address / line_bytes];
        const bool mine = l.held[me.number];
        if (l.holders != 0 && !(mine && (!write || l.holders == 1))) {
            const picoseconds start = std::max(me.time, l.free_at);
            const picoseconds end = start + cost.transfer * (95 + random(11)) / 100;
            // Who reads what others only read gets a copy of theirs, at the same time as others.
            if (write || l.holders == 1)
                l.free_at = end;
            ++l.fetches;
            l.queueing += start - me.time;
            done.queueing += start - me.time;
            done.fetching += end - me.time;
            ++(plain ? done.plain_fetches : done.fetches);
            me.time = end;
        }
        if (write) {
            if (!plain && l.writer != nobody && l.writer != my)
                ++done.transfers;
            l.writer = my;
            if (!mine || l.holders != 1) {
                l.held.reset();
                l.held.set(me.number);
                l.holders = 1;
            }
        } else if (!mine) {
            l.held.set(me.number);
            ++l.holders;
        }
        if (plain) // its time is part of what the program spends
            return;
        me.time += a == access::modify ? cost.modify : cost.load;
        switch (a) {
        case access::load: ++done.loads; break;
        case access::store: ++done.stores; break;
        case access::modify: ++done.modifies; break;
        }
    }

    void touch(std::uintptr_t address, std::size_t size, bool store) {
        if (is_private(address))
            return;
        const std::uintptr_t last = (address + size - 1) / line_bytes;
        for (std::uintptr_t n = address / line_bytes; n <= last; ++n)
            reach(n * line_bytes, store ? access::store : access::load, true);
    }

    void name(const void* object, std::size_t size, std::string_view text) {
        const auto at = reinterpret_cast<std::uintptr_t>(object);
        names_[at / line_bytes] = {(at + size - 1) / line_bytes, std::string(text)};
    }

    std::array<hot_line, 4> hottest() const {
        std::map<std::string, hot_line> by_name;
        for (const line& l : lines.all()) {
            if (l.fetches == 0)
                continue;
            hot_line& h = by_name[name_of(l.number)];
            h.fetches += l.fetches;
            h.queueing += l.queueing;
        }
        std::vector<hot_line> all;
        for (auto& [text, h] : by_name) {
            text.copy(h.name, sizeof h.name - 1);
            all.push_back(h);
        }
        std::sort(all.begin(), all.end(), [](const hot_line& a, const hot_line& b) {
            return a.queueing != b.queueing ? a.queueing > b.queueing : a.fetches > b.fetches;
        });
        std::array<hot_line, 4> first;
        std::copy_n(all.begin(), std::min(all.size(), first.size()), first.begin());
        return first;
    }

    // --- threads ---

    std::size_t start(std::function<void()> body) {
        a_core* c = nullptr;
        for (a_core& one : cores_)
            if (one.ended && c == nullptr)
                c = &one;
        if (c == nullptr) {
            if (cores_.size() == most_cores)
                give_up("there are not so many cores");
            c = &cores_.emplace_back();
            c->number = cores_.size() - 1;
            c->context = std::make_unique<fiber>(take_stack(), stack_bytes, &machine::main_of, c);
        }
        c->body = std::move(body);
        c->ended = false;
        c->state = {};
        c->frames.assign(frame_lists().size(), std::byte{});
        c->time = running_->time + cost.new_thread;
        push(c->time, c, ++c->turn);
        return c->number;
    }

    void join(std::size_t number) {
        a_core& c = cores_[number];
        while (!c.ended)
            sleep_on({&c}, never);
    }

    costs cost;
    counts done;
    line_table lines;
    picoseconds device_time = 0; // of what is called now ...
    bool in_device = false;      // ... if something is

private:
    static void main_of(void* self);

    a_core& take_next() {
        for (;;) {
            if (events_.empty())
                give_up("all threads sleep, and nothing will wake one");
            const event e = events_.front();
            std::pop_heap(events_.begin(), events_.end(), later());
            events_.pop_back();
            if (e.core == nullptr) {
                const auto call = calls_.extract(e.turn);
                device_time = e.time;
                in_device = true;
                call.mapped()();
                in_device = false;
            } else if (e.turn == e.core->turn) {
                ++e.core->turn;
                e.core->time = std::max(e.core->time, e.time);
                return *e.core;
            }
        }
    }

    /// Whether memory is no more than one core's: stacks, and what is kept for each thread.
    bool is_private(std::uintptr_t address) const noexcept {
        const auto within = [address](const void* begin, std::size_t size) {
            return address - reinterpret_cast<std::uintptr_t>(begin) < size;
        };
        return within(stacks_, stacks_ != nullptr ? most_cores * stack_bytes : 0) ||
               within(&magpie::detail::this_thread(), sizeof(magpie::detail::thread_state)) ||
               within(frame_lists().data(), frame_lists().size()) || is_on_main_stack(address);
    }
    bool is_on_main_stack(std::uintptr_t address) const noexcept {
        const auto top = reinterpret_cast<std::uintptr_t>(main_stack_) + 64 * 1024;
        return address <= top && top - address < 8 * 1024 * 1024;
    }

    std::byte* take_stack() {
        if (stacks_ == nullptr) {
            void* const p = ::mmap(nullptr, most_cores * stack_bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED)
                give_up("no memory for stacks");
            stacks_ = static_cast<std::byte*>(p);
        }
        return stacks_ + stack_bytes * stacks_used_++;
    }

    std::string name_of(std::uintptr_t number) const {
        for (auto at = names_.upper_bound(number); at != names_.begin();) // the innermost
            if (const auto& [last, text] = (--at)->second; number <= last)
                return text;
        return "elsewhere";
    }

    std::int64_t random(std::uint32_t below) noexcept { // xorshift64*
        random_ ^= random_ >> 12;
        random_ ^= random_ << 25;
        random_ ^= random_ >> 27;
        return static_cast<std::int64_t>(((random_ * 0x2545F4914F6CDD1DULL) >> 32) * below >> 32);
    }

    std::deque<a_core> cores_;
    a_core* running_ = nullptr;
    std::vector<event> events_; // a heap
    std::uint64_t sequence_ = 0;
    std::unordered_map<std::uint64_t, std::function<void()>> calls_;
    std::uint64_t calls_made_ = 0;
    std::unordered_map<const void*, std::vector<a_core*>> sleepers_; // in the order in which they came
    std::map<std::uintptr_t, std::pair<std::uintptr_t, std::string>> names_; // lines, first to last
    std::uint64_t random_ = 1;
    std::byte* stacks_ = nullptr;
    std::size_t stacks_used_ = 0;
    const void* main_stack_ = __builtin_frame_address(0); // near its top
};

machine& the_machine() {
    static machine one;
    return one;
}

void machine::main_of(void* self) {
    a_core& me = *static_cast<a_core*>(self);
    for (;;) {
        me.body();
        me.body = nullptr;
        end_frames();
        me.ended = true;
        ++me.turn;
        the_machine().wake_sleepers(&me, most_cores, me.time);
        the_machine().go_on(); // it is switched to again when it has another body
    }
}

} // namespace

// --- what the seam asks for ---

void reach(const void* address, access a) noexcept {
    machine& m = the_machine();
    m.reach(reinterpret_cast<std::uintptr_t>(address), a, false);
    m.let_others_go();
}

// The word is 0, 1 (taken), or 2 (taken, and somebody may sleep).
bool try_lock(std::uint32_t& word) noexcept {
    reach(&word, access::modify);
    if (word != 0)
        return false;
    word = 1;
    ++the_machine().done.locks;
    return true;
}

void lock(std::uint32_t& word) noexcept {
    if (try_lock(word))
        return;
    for (;;) {
        reach(&word, access::modify);
        if (std::exchange(word, 2) == 0)
            break;
        futex_wait(word, 2, std::chrono::steady_clock::time_point::max());
    }
    ++the_machine().done.locks;
}

void unlock(std::uint32_t& word) noexcept {
    reach(&word, access::modify);
    if (std::exchange(word, 0) == 2)
        futex_wake(&word, 1);
}

bool futex_wait(const std::uint32_t& word, std::uint32_t expected,
                std::chrono::steady_clock::time_point deadline) noexcept {
    machine& m = the_machine();
    call_system(m.cost.system_call);
    m.reach(reinterpret_cast<std::uintptr_t>(&word), access::load, false);
    m.let_others_go();
    if (word != expected)
        return true;
    m.running().time += m.cost.switch_out;
    return m.sleep_on({&word}, to_machine(deadline));
}

void futex_wake(const void* address, int count) noexcept {
    machine& m = the_machine();
    call_system(m.cost.system_call);
    if (wake_sleepers(address, static_cast<std::size_t>(count)) > 0)
        m.running().time += m.cost.wake;
    m.let_others_go();
}

void interrupt_all() noexcept {
    machine& m = the_machine();
    call_system(m.cost.interrupt);
    m.let_others_go();
}

// --- what the simulation is made with ---

namespace {

/// Calls `f` for each of them.
template <class F>
void for_each_count(counts& a, const counts& b, F f) {
    f(a.loads, b.loads);
    f(a.stores, b.stores);
    f(a.modifies, b.modifies);
    f(a.locks, b.locks);
    f(a.transfers, b.transfers);
    f(a.fetches, b.fetches);
    f(a.plain_fetches, b.plain_fetches);
    f(a.fetching, b.fetching);
    f(a.queueing, b.queueing);
    f(a.sleeps, b.sleeps);
    f(a.wakes, b.wakes);
    f(a.system_calls, b.system_calls);
}

} // namespace

counts counts::since(const counts& before) const noexcept {
    counts d = *this;
    for_each_count(d, before, [](auto& n, auto m) { n -= m; });
    return d;
}

void counts::add(const counts& other) noexcept {
    for_each_count(*this, other, [](auto& n, auto m) { n += m; });
}

void begin(const costs& c, std::uint64_t seed) { the_machine().begin(c, seed); }
counts counted() noexcept { return the_machine().done; }

picoseconds now() noexcept {
    const machine& m = the_machine();
    return m.in_device ? m.device_time : the_machine().running().time;
}
const costs& cost() noexcept { return the_machine().cost; }

std::chrono::steady_clock::time_point to_program(picoseconds t) noexcept {
    return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(t / nanosecond));
}
picoseconds to_machine(std::chrono::steady_clock::time_point t) noexcept {
    const auto ns = t.time_since_epoch().count();
    return ns >= never / nanosecond ? never : ns * nanosecond;
}

std::size_t core() noexcept { return the_machine().running().number; }

void spend(picoseconds t) noexcept { the_machine().running().time += t; }

void call_system(picoseconds t) noexcept {
    ++the_machine().done.system_calls;
    spend(t);
}

void at(picoseconds when, std::function<void()> f) { the_machine().at(when, std::move(f)); }

std::size_t start_thread(std::function<void()> body) { return the_machine().start(std::move(body)); }
void join_thread(std::size_t core) noexcept { the_machine().join(core); }

bool sleep_on(std::initializer_list<const void*> addresses, picoseconds deadline) noexcept {
    return the_machine().sleep_on(addresses, deadline);
}
std::size_t wake_sleepers(const void* address, std::size_t count) noexcept {
    return the_machine().wake_sleepers(address, count, now());
}

void let_others_go() noexcept { the_machine().let_others_go(); }

void name(const void* object, std::size_t size, std::string_view text) {
    the_machine().name(object, size, text);
}
void forget_heat() noexcept {
    for (line& l : the_machine().lines.all()) {
        l.fetches = 0;
        l.queueing = 0;
    }
}
std::array<hot_line, 4> hottest() { return the_machine().hottest(); }

void touch(const void* address, std::size_t size, bool store) noexcept {
    the_machine().touch(reinterpret_cast<std::uintptr_t>(address), size, store);
}

} // namespace magpie_machine

extern "C" void magpie_machine_pause() noexcept {
    using namespace magpie_machine;
    spend(the_machine().cost.pause);
}
