#include "explorer.hpp"

#include "choices.hpp"
#include "engine.hpp"
#include "fiber.hpp"
#include "memory.hpp"
#include "weak_memory.hpp"

#include <magpie/core/detail/thread_state.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace magpie_model {

namespace {

enum class phase : unsigned char { unused, unstarted, waiting, running, ended };

struct model_thread {
    std::unique_ptr<fiber> stack;
    std::string name;
    std::function<void()> body;
    magpie::detail::thread_state state;
    phase at = phase::unused;
    bool twin = false;                 // does the same as the one before it
    knowledge now;                     // of what has happened
    std::vector<std::size_t> steps_at; // for each of its times, how many steps there were before
    bool in_own_step = false;          // of the scenario, which lasts until its next one

    operation wants{}; // while it waits: its next step, and on what that depends
    condition ready = nullptr;
    const void* argument = nullptr;
    bool limited = false; // its time may be up
    bool timed_out = false;
    bool in_spoiled = false;  // between `after` and `until` of what is spoiled
    bool undecided = false;   // it was chosen, but has not made a step since
    std::size_t patience = 0; // it lets the others go first while so many steps were made
};

class explorer {
public:
    explored run_all(void (*body)(), const extent& e);
    void run_some(void (*body)(), unsigned preemptions, std::uint64_t how_many);
    void run_once(void (*body)());

    unsigned add_thread(std::string_view name, std::function<void()> body, bool twin);
    unsigned current_thread() const { return static_cast<unsigned>(current - threads_.data()); }
    const knowledge& at_end_of(unsigned thread) const { return threads_[thread].now; }
    bool has_ended(unsigned thread) const { return threads_[thread].at == phase::ended; }
    void run_threads();
    bool await_turn(const operation& o, condition ready, const void* argument, time_limit limit);
    void others_may_go();
    std::size_t choose_place(std::size_t count);
    void begin_own_step();
    void end_own_step();
    void know_all();
    void tell_all();
    std::string step_of(unsigned thread, clock::time t) const;

    choices path;
    weak_memory atomics;
    bool cut = false; // something was left out for the bound
    trace steps;
    std::uint64_t executions = 0;
    std::uint32_t number = 0;             // of the execution: 0 is none
    volatile std::uint64_t all_steps = 0; // read by a signal handler
    model_thread* current = nullptr;      // null: no execution is under way
    spoiled how{};
    bool met_spoiled = false;
    std::set<std::string> outcomes;
    scenario::bounds limits;

private:
    void execute(void (*body)());
    static void body_main(void* self);
    void begin(model_thread& t);
    void tick();
    void run_on(model_thread& next);
    void warm_up(void (*body)());
    void give_way();
    void deadlock() noexcept;
    bool can_run(const model_thread& t) const;
    bool is_patient(const model_thread& t) const {
        return t.patience == steps.size() && t.patience > 0;
    }
    bool is_ready(const model_thread& t) const;
    static void thread_main(void* self);
    static bool all_ended(const void* self);

    std::array<model_thread, most_threads> threads_;
    std::unique_ptr<fiber> outside_;
    void (*body_)() = nullptr;
    knowledge own_steps_; // of the scenario: they happen one after the other
    std::size_t used_ = 0;
    bool launched_ = false;
    unsigned preemptions_left_ = 0;
    unsigned bound_ = 0;
};

explorer the;

// Otherwise there is one thread, and nothing is a step.
bool exploring() noexcept { return the.current != nullptr; }

void (*failure_handler)(const failure&) noexcept = nullptr;

// --- the search ---

explored explorer::run_all(void (*body)(), const extent& e) {
    warm_up(body);
    explored all{0, true};
    cut = true;
    for (bound_ = e.first; bound_ <= e.last && cut && all.whole;
         ++bound_) { // fewest first: short ones are readable
        path = choices();
        all.executions = 0;
        cut = false;
        bool more = false;
        do {
            execute(body);
            memory::check_blocks();
            ++executions;
            ++all.executions;
            more = path.next();
        } while (more && executions < e.most && all_steps < e.most_steps);
        all.whole = !more;
    }
    return all;
}

void explorer::run_some(void (*body)(), unsigned preemptions, std::uint64_t how_many) {
    warm_up(body);
    bound_ = preemptions;
    path = choices();
    path.wander();
    // One without a step counts as one.
    const std::uint64_t last = all_steps + executions + how_many;
    for (; all_steps + executions < last; ++executions) {
        execute(body);
        memory::check_blocks();
    }
}

void explorer::run_once(void (*body)()) {
    const choices asked = std::exchange(path, choices());
    warm_up(body);
    path = asked;
    execute(body);
    memory::check_blocks();
}

// What static objects allocate when they are first used belongs to no execution.
void explorer::warm_up(void (*body)()) {
    bound_ = 0;
    path = choices();
    execute(body);
    memory::keep();
}

void explorer::execute(void (*body)()) {
    path.begin();
    steps.clear();
    used_ = 1;
    launched_ = false;
    preemptions_left_ = bound_;
    own_steps_ = {};
    memory::begin();
    memory::begin_races();
    atomics.begin();
    ++number;
    body_ = body;
    model_thread& self = threads_[0];
    if (!self.stack) {
        outside_ = std::make_unique<fiber>();
        self.stack = std::make_unique<fiber>(memory::take_stack(), memory::stack_bytes,
                                             &explorer::body_main, this);
        self.name = "main";
    }
    begin(self);
    self.at = phase::running;
    current = &self;
    memory::set_running(0, &self.now.happened);
    outside_->switch_to(*self.stack);
    path.end();
}

void explorer::body_main(void* self) {
    explorer& e = *static_cast<explorer*>(self);
    for (;;) { // once an execution
        {
            const memory::counting theirs(true);
            e.body_();
        }
        if (e.used_ > 1)
            fail("scenario", "it has threads that it did not run()");
        e.current = nullptr;
        memory::set_running(0, nullptr);
        e.threads_[0].stack->switch_to(*e.outside_);
    }
}

void explorer::begin(model_thread& t) {
    t.state = {};
    t.patience = 0;
    t.undecided = false;
    t.in_own_step = false;
    t.in_spoiled = false;
    t.now = {};
    t.steps_at.clear();
    t.now.happened.tick(static_cast<std::size_t>(&t - threads_.data()));
    t.steps_at.push_back(0);
}

// --- threads ---

unsigned explorer::add_thread(std::string_view name, std::function<void()> body, bool twin) {
    const memory::counting ours(false);
    if (used_ == most_threads)
        fail("scenario", "it has too many threads");
    model_thread& t = threads_[used_++];
    if (!t.stack)
        t.stack = std::make_unique<fiber>(memory::take_stack(), memory::stack_bytes,
                                          &explorer::thread_main, &t);
    t.name = name;
    t.body = std::move(body);
    begin(t);
    t.at = phase::unstarted;
    t.twin = twin;
    t.undecided = true;
    t.now.join(current->now);
    tick();
    return static_cast<unsigned>(used_ - 1);
}

void explorer::thread_main(void* self) {
    model_thread& t = *static_cast<model_thread*>(self);
    for (;;) { // once an execution
        {
            const memory::counting theirs(true);
            t.body();
            t.body = nullptr;
        }
        if (t.in_own_step)
            the.end_own_step();
        t.at = phase::ended;
        the.give_way();
    }
}

bool explorer::all_ended(const void* self) {
    const explorer& e = *static_cast<const explorer*>(self);
    return std::all_of(e.threads_.begin() + 1,
                       e.threads_.begin() + static_cast<std::ptrdiff_t>(e.used_),
                       [](const model_thread& t) { return t.at == phase::ended; });
}

void explorer::run_threads() {
    launched_ = true;
    for (std::size_t i = 1; i < used_; ++i)
        threads_[i].now.join(current->now);
    tick();
    await_turn({"join", nullptr, source::current()}, &explorer::all_ended, this, time_limit::never);
    for (std::size_t i = 1; i < used_; ++i)
        current->now.join(threads_[i].now);
    launched_ = false;
    used_ = 1;
}

// --- steps ---

bool explorer::await_turn(const operation& o, condition ready, const void* argument, time_limit limit) {
    const memory::counting ours(false);
    model_thread& self = *current;
    if (self.in_own_step)
        end_own_step();
    self.wants = o;
    self.ready = ready;
    self.argument = argument;
    self.limited = limit != time_limit::never &&
                   (limits.which == timeouts::all ||
                    (limits.which == timeouts::soon && limit == time_limit::soon));
    self.at = phase::waiting;
    self.timed_out = false;
    if (!(self.undecided && is_ready(self)))
        give_way();
    self.undecided = false;
    self.at = phase::running;
    if (steps.size() == most_steps)
        fail("livelock", "the execution has no end");
    steps.add(self.name.c_str(), o);
    if (how.after != nullptr && std::strstr(o.at.function_name(), how.after) != nullptr)
        self.in_spoiled = true;
    else if (how.until != nullptr && std::strstr(o.at.function_name(), how.until) != nullptr)
        self.in_spoiled = false;
    all_steps = all_steps + 1;
    return !self.timed_out;
}

void explorer::others_may_go() {
    const memory::counting ours(false);
    model_thread& self = *current;
    tick(); // what follows is not known to who synchronizes with what was
    self.ready = nullptr;
    self.limited = false;
    self.at = phase::waiting;
    give_way();
    self.at = phase::running;
    self.undecided = true;
}

bool explorer::can_run(const model_thread& t) const {
    switch (t.at) {
    case phase::unstarted: return launched_ && !(t.twin && (&t - 1)->at == phase::unstarted);
    case phase::waiting: return t.ready == nullptr || t.ready(t.argument);
    default: return false;
    }
}

bool explorer::is_ready(const model_thread& t) const {
    return can_run(t) &&
           !(is_patient(t) && std::any_of(threads_.begin(), threads_.end(), [&](const model_thread& o) {
                 return can_run(o) && !is_patient(o);
             }));
}

// Who makes the next step? The options, cheapest first: whoever runs now; the others that can run;
// those whose time may be up. To leave a thread that could run on is a preemption.
void explorer::give_way() {
    std::array<model_thread*, most_threads> options{};
    std::size_t count = 0;
    if (is_ready(*current))
        options[count++] = current;
    std::size_t free = count;
    for (std::size_t i = 0; i < used_; ++i)
        if (&threads_[i] != current && is_ready(threads_[i]))
            options[count++] = &threads_[i];
    if (free == 0)
        free = count;
    const std::size_t in_time = count;
    for (std::size_t i = 0; i < used_; ++i)
        if (threads_[i].at == phase::waiting && threads_[i].limited && !is_ready(threads_[i]))
            options[count++] = &threads_[i];
    if (count == 0)
        deadlock();
    if (free == 0)
        free = count;

    const std::size_t chosen = path.choose(count, preemptions_left_ > 0 ? count : free, free);
    if (count > free && preemptions_left_ == 0)
        cut = true;
    if (chosen >= free && preemptions_left_ > 0)
        --preemptions_left_;
    model_thread& next = *options[chosen];
    next.timed_out = chosen >= in_time;
    if (&next != current)
        run_on(next);
}

void explorer::run_on(model_thread& next) {
    model_thread& self = *std::exchange(current, &next);
    memory::set_running(static_cast<std::uint8_t>(current_thread()), &next.now.happened);
    self.stack->switch_to(*next.stack);
}

// Where does an operation go? The newest place costs nothing.
std::size_t explorer::choose_place(std::size_t count) {
    if (count < 2 || limits.in_order)
        return 0;
    if (preemptions_left_ == 0)
        cut = true;
    const std::size_t chosen = path.choose(count, preemptions_left_ > 0 ? count : 1);
    if (chosen > 0 && preemptions_left_ > 0)
        --preemptions_left_;
    return chosen;
}

// --- what happens before what ---

void explorer::tick() {
    current->now.happened.tick(current_thread());
    current->steps_at.push_back(steps.size());
}

// Such steps happen one after the other, as if under one lock.
void explorer::begin_own_step() {
    current->now.join(own_steps_);
    current->in_own_step = true;
}

void explorer::end_own_step() {
    const memory::counting ours(false);
    current->in_own_step = false;
    own_steps_.join(current->now);
    tick();
}

void explorer::know_all() {
    for (std::size_t i = 0; i < used_; ++i)
        current->now.join(threads_[i].now);
}

void explorer::tell_all() {
    know_all();
    const knowledge all = current->now;
    for (std::size_t i = 0; i < used_; ++i)
        threads_[i].now.join(all);
}

std::string explorer::step_of(unsigned thread, clock::time t) const {
    const model_thread& of = threads_[thread];
    return of.name + "'s step " + std::to_string(t == 0 ? 0 : of.steps_at[t - 1U]);
}

void explorer::deadlock() noexcept {
    std::string text = "nobody can run:";
    for (std::size_t i = 1; i < used_; ++i)
        if (const model_thread& t = threads_[i]; t.at == phase::waiting)
            text += " " + t.name + " waits for \"" + t.wants.what + "\";";
    text.pop_back();
    fail("deadlock", text);
}

} // namespace

// --- for scenarios ---

void thread(std::string_view name, std::function<void()> body) {
    the.add_thread(name, std::move(body), false);
}

void threads(int count, std::string_view name, const std::function<void()>& body) {
    for (int i = 1; i <= count; ++i) {
        char numbered[64];
        std::snprintf(numbered, sizeof numbered, "%.*s %d", static_cast<int>(name.size()), name.data(),
                      i);
        the.add_thread(numbered, body, i > 1);
    }
}

void run() { the.run_threads(); }

void check(bool holds, const char* sentence, source at) {
    if (holds)
        return;
    const memory::counting ours(false);
    fail("check", std::string(sentence) + " (" + place_of(at) + ")");
}

void fail(const char* kind, std::string_view text) noexcept {
    const memory::counting ours(false);
    const failure f{kind, text, the.executions + 1, the.path.text()};
    if (failure_handler != nullptr)
        failure_handler(f);
    std::terminate();
}

void outcome(std::initializer_list<int> digits) {
    const memory::counting ours(false);
    std::string text;
    for (const int d : digits)
        text += std::to_string(d);
    the.outcomes.insert(std::move(text));
}

void name(const void* object, std::size_t size, std::string_view name) {
    const memory::counting ours(false);
    the.steps.name(object, size, name);
}

// --- for the explorer's other parts ---

void on_failure(void (*handler)(const failure&) noexcept) noexcept { failure_handler = handler; }

explored explore(void (*body)(), const spoiled& how, const scenario::bounds& limits, extent e) {
    the.how = how;
    the.limits = limits;
    return the.run_all(body, e);
}

void explore_at_random(void (*body)(), const scenario::bounds& limits, unsigned preemptions,
                       std::uint64_t steps) {
    the.limits = limits;
    the.run_some(body, preemptions, steps);
}

void note_weakened() noexcept { the.path.come_near(); }

bool replay(void (*body)(), const spoiled& how, std::string_view schedule,
            const scenario::bounds& limits) {
    the.how = how;
    the.limits = limits;
    if (!the.path.replay(schedule))
        return false;
    the.run_once(body);
    return true;
}

void print_trace(std::FILE* to) { the.steps.print(to); }
std::string other_outcomes(const char* listed) {
    std::set<std::string> expected;
    std::istringstream words(listed);
    for (std::string word; words >> word;)
        expected.insert(word);
    std::string text;
    for (const std::string& o : the.outcomes)
        if (!expected.contains(o))
            text += " " + o + " must not come";
    for (const std::string& o : expected)
        if (!the.outcomes.contains(o))
            text += " " + o + " does not come";
    return text;
}

std::uint64_t steps_made() noexcept { return the.all_steps; }
bool met_spoiled() noexcept { return the.met_spoiled; }

unsigned begin_thread(std::string_view name, std::function<void()> body) {
    return the.add_thread(name, std::move(body), false);
}
unsigned current_thread() noexcept { return the.current_thread(); }
bool has_ended(unsigned thread) noexcept { return the.has_ended(thread); }

bool await_turn(const operation& o, condition ready, const void* argument, time_limit limit) {
    if (exploring())
        return the.await_turn(o, ready, argument, limit);
    if (ready != nullptr && !ready(argument))
        fail("deadlock", "something waits outside of a scenario");
    return true;
}

void await_others(const operation& o) {
    if (!exploring())
        return;
    the.current->patience = the.steps.size();
    await_turn(o);
}

void others_may_go() {
    if (exploring())
        the.others_may_go();
}

void begin_own_step() {
    if (exploring())
        the.begin_own_step();
}

void end_own_step() {
    if (exploring())
        the.end_own_step();
}

void know_all() noexcept {
    if (exploring())
        the.know_all();
}

void tell_all() noexcept {
    if (exploring())
        the.tell_all();
}

weak_memory& atomics() noexcept { return the.atomics; }
std::uint32_t execution() noexcept { return exploring() ? the.number : 0; }
knowledge& now() noexcept { return the.current->now; }
const knowledge& at_end_of(unsigned thread) noexcept { return the.at_end_of(thread); }
std::size_t choose_place(std::size_t count) { return the.choose_place(count); }
std::string step_of(unsigned thread, clock::time t) { return the.step_of(thread, t); }
std::string place_of(const void* address) { return the.steps.describe(address); }

void nothing_done() noexcept {
    if (exploring())
        the.current->undecided = true;
}

std::size_t steps_in_execution() noexcept { return the.steps.size(); }

trace_line& last_step() noexcept {
    static trace_line nowhere{};
    return exploring() ? the.steps.last() : nowhere;
}

bool is_spoiled(const operation& o, spoiled::how effect) noexcept {
    const spoiled& s = the.how;
    if (s.function == nullptr || s.effect != effect || !exploring() ||
        (s.after != nullptr && !the.current->in_spoiled) || std::strcmp(s.what, o.what) != 0 ||
        std::strstr(o.at.function_name(), s.function) == nullptr)
        return false;
    the.met_spoiled = true;
    return true;
}

} // namespace magpie_model

// --- for the product ---

namespace magpie::detail {

thread_state& this_thread() noexcept {
    static thread_local constinit thread_state outside;
    return magpie_model::the.current != nullptr ? magpie_model::the.current->state : outside;
}

} // namespace magpie::detail
