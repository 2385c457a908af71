// What the compiler at hand makes of coroutines, without magpie: docs/compilers.md, as a program.
//
// clang has none of the defects and g++ 12 has exactly these; of a newer g++ the tests only say what
// they find. The safe forms have to be right everywhere: they are how magpie and its users write.
//
// lint: traps on purpose

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <coroutine>
#include <csignal>
#include <cstdint>
#include <exception>
#include <functional>
#include <utility>

namespace {
/// A coroutine that is run to its end by hand.
class script {
public:
    struct promise_type {
        int result = 0;
        script get_return_object() {
            return script(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_value(int value) { result = value; }
        void unhandled_exception() { std::terminate(); }
    };

    explicit script(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
    script(script&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    ~script() {
        if (frame_)
            frame_.destroy();
    }

    int run() {
        while (!frame_.done())
            frame_.resume();
        return frame_.promise().result;
    }

private:
    std::coroutine_handle<promise_type> frame_;
};

/// Suspends once, then gives its number.
class give {
public:
    explicit give(int value) : value_(value) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    int await_resume() const noexcept { return value_; }

private:
    int value_;
};

/// Counts the objects alive: below zero, one was destroyed twice; above, one never.
struct counted {
    static inline int alive = 0;
    int value = 0;
    counted() { ++alive; }
    counted(const counted& other) : value(other.value) { ++alive; }
    counted(counted&& other) noexcept : value(other.value) { ++alive; }
    counted& operator=(const counted&) = default;
    ~counted() { --alive; }
};

template <class Coroutine>
int alive_after(Coroutine coroutine) {
    counted::alive = 0;
    coroutine(counted()).run();
    return counted::alive;
}

/// Whether the coroutine ends with 7. In a process of its own: where it does not, it may crash.
template <class Coroutine>
bool runs(Coroutine coroutine) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        for (int signal : {SIGSEGV, SIGILL, SIGBUS, SIGABRT, SIGTRAP})
            std::signal(signal, SIG_DFL);
        const rlimit none{0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(30); // a body that is not run may also never end
        _exit(coroutine(1).run());
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

enum class compiler { clang, gcc_12, newer_gcc };
#if defined(__clang__)
constexpr auto here = compiler::clang;
#elif __GNUC__ <= 12
constexpr auto here = compiler::gcc_12;
#else
constexpr auto here = compiler::newer_gcc;
#endif

void defect_of_gcc_12(const char* form, bool found) {
    CAPTURE(form);
    if constexpr (here == compiler::clang)
        CHECK_FALSE(found);
    else if constexpr (here == compiler::gcc_12)
        CHECK(found);
    else
        MESSAGE("g++ " << __GNUC__ << (found ? " has" : " does not have") << " this defect");
}

void safe(const char* form, bool right) {
    CAPTURE(form);
    CHECK(right);
}

// ---- no variable, and co_await in a condition --------------------------------------------------------

script no_variable_if(int yes) {
    if (co_await give(yes))
        co_return 7;
    co_return 1;
}

script no_variable_while(int yes) {
    while (!co_await give(yes))
        co_return 1;
    co_return 7;
}

script no_variable_do(int yes) {
    do
        ++yes;
    while (!co_await give(yes));
    co_return 7;
}

script no_variable_for(int yes) {
    for (; !co_await give(yes);)
        co_return 1;
    co_return 7;
}

script no_variable_switch(int yes) {
    switch (co_await give(yes)) {
    case 1: co_return 7;
    default: co_return 1;
    }
}

script named_condition(int yes) {
    const bool ok = co_await give(yes) != 0;
    if (ok)
        co_return 7;
    co_return 1;
}

script condition_with_declaration(int yes) {
    if (const bool ok = co_await give(yes) != 0; ok)
        co_return 7;
    co_return 1;
}

script any_declaration(int yes) {
    using any [[maybe_unused]] = int;
    if (co_await give(yes))
        co_return 7;
    co_return 1;
}

script declaration_further_down(int yes) {
    if (!co_await give(yes)) {
        const int one = 1;
        co_return one;
    }
    co_return 7;
}

script co_await_in_the_branch(int yes) {
    if (yes != 0)
        co_await give(yes);
    co_return 7;
}

// ---- a temporary lambda with captures, in an expression that awaits -----------------------------------

template <class F>
give call(F f) {
    return give(f());
}
template <class F>
give call_by_reference(F&& f) {
    return give(f());
}
template <class F>
int call_and_add(F f, int n) {
    return f() + n;
}

script lambda_by_value(counted c) {
    co_return co_await call([c] { return c.value; });
}
script lambda_by_reference(counted c) {
    co_return co_await call_by_reference([c] { return c.value; });
}
script lambda_that_is_called(counted c) {
    co_return co_await [c] { return give(c.value); }();
}
script lambda_with_moved_capture(counted c) {
    co_return co_await call([d = std::move(c)] { return d.value; });
}
script lambda_in_a_function(counted c) {
    co_return co_await call(std::function<int()>([c] { return c.value; }));
}
script lambda_beside_the_await(counted c) {
    co_return call_and_add([c] { return c.value; }, co_await give(0));
}

script named_lambda(counted c) {
    auto f = [c] { return c.value; };
    co_return co_await call(std::move(f));
}
script named_awaitable(counted c) {
    auto operation = call([c] { return c.value; });
    co_return co_await operation;
}
script capture_by_reference(counted c) {
    co_return co_await call([&c] { return c.value; });
}
script trivial_capture(counted c) {
    co_return co_await call([value = c.value] { return value; });
}
int value_of(const counted& c) { return c.value; }
script bound_argument(counted c) { co_return co_await call(std::bind_front(value_of, c)); }
script lambda_in_another_statement(counted c) {
    const int value = [c] { return c.value; }();
    co_return co_await give(value);
}

// ---- a temporary aggregate -----------------------------------------------------------------------------

struct aggregate {
    counted c;
    int n = 0;
};
struct with_constructor {
    explicit with_constructor(counted argument) : c(std::move(argument)) {}
    counted c;
    int n = 0;
};

give use(aggregate a) { return give(a.n); }
give use(with_constructor a) { return give(a.n); }
give use_reference(const aggregate& a) { return give(a.n); }

script aggregate_by_value(counted c) { co_return co_await use(aggregate{c}); }
script aggregate_by_reference(counted c) { co_return co_await use_reference(aggregate{c}); }
script aggregate_from_braces(counted c) { co_return co_await use_reference({c}); }
script aggregate_named(counted c) {
    aggregate a{c};
    co_return co_await use(std::move(a));
}
script class_with_constructor(counted c) { co_return co_await use(with_constructor(c)); }

// ---- co_await in one arm of ?: with class type, and structured bindings --------------------------------

struct give_counted : std::suspend_always {
    counted await_resume() const noexcept { return counted(); }
};
struct give_pair : std::suspend_always {
    std::pair<counted, counted> await_resume() const noexcept { return {}; }
};

script class_in_conditional(counted c) {
    const counted d = c.value == 0 ? co_await give_counted() : counted();
    co_return d.value;
}
/// What is awaited is an object itself, as a task is.
class give_by_object {
public:
    explicit give_by_object(counted c) : counted_(std::move(c)) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    int await_resume() const noexcept { return counted_.value; }

private:
    counted counted_;
};
give_by_object one_of(counted c) { return give_by_object(std::move(c)); }

script awaited_conditional(counted c) {
    co_return co_await (c.value == 0 ? one_of(c) : one_of(counted()));
}
script conditional_argument(counted c) {
    co_return co_await use(c.value == 0 ? with_constructor(c) : with_constructor(counted()));
}
script named_conditional(counted c) {
    auto chosen = c.value == 0 ? one_of(c) : one_of(counted());
    co_return co_await std::move(chosen);
}

script class_in_if(counted c) {
    if (c.value == 0) {
        const counted d = co_await give_counted();
        co_return d.value;
    }
    co_return 1;
}
script scalar_in_conditional(counted c) { co_return c.value == 0 ? co_await give(0) : 1; }

script structured_binding(counted c) {
    auto [first, second] = co_await give_pair();
    co_return first.value + second.value + c.value;
}
script named_pair(counted c) {
    auto both = co_await give_pair();
    co_return both.first.value + both.second.value + c.value;
}

// ---- symmetric transfer --------------------------------------------------------------------------------

/// A lazy coroutine that starts and resumes by symmetric transfer, as `magpie::task` does.
class child {
public:
    struct promise_type {
        std::coroutine_handle<> parent;
        child get_return_object() {
            return child(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() noexcept { return {}; }
        struct back_to_parent {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(
                std::coroutine_handle<promise_type> self) const noexcept {
                return self.promise().parent;
            }
            void await_resume() const noexcept {}
        };
        back_to_parent final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };

    explicit child(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
    child(child&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    ~child() {
        if (frame_)
            frame_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) const noexcept {
        frame_.promise().parent = parent;
        return frame_;
    }
    void await_resume() const noexcept {}

private:
    std::coroutine_handle<promise_type> frame_;
};

/// How far apart the frames were of all that called `visit()`.
struct stack_span {
    std::uintptr_t low = UINTPTR_MAX;
    std::uintptr_t high = 0;

    [[gnu::noinline]] void visit() {
        const auto here_on_the_stack = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
        low = std::min(low, here_on_the_stack);
        high = std::max(high, here_on_the_stack);
    }
    std::uintptr_t bytes() const { return high - low; }
};

child leaf(stack_span& stack) {
    stack.visit();
    co_return;
}

script await_in_a_loop(stack_span& stack, int n) {
    for (int i = 0; i < n; ++i)
        co_await leaf(stack);
    co_return n;
}
} // namespace

TEST_SUITE("core.compilers") {
    TEST_CASE("a body without any declaration, and co_await in a condition, does not run with g++ 12") {
        defect_of_gcc_12("if", !runs(no_variable_if));
        defect_of_gcc_12("while", !runs(no_variable_while));
        defect_of_gcc_12("do", !runs(no_variable_do));
        defect_of_gcc_12("for", !runs(no_variable_for));
        defect_of_gcc_12("switch", !runs(no_variable_switch));
    }

    TEST_CASE("any declaration in the body makes a condition with co_await safe") {
        safe("the result has a name", runs(named_condition));
        safe("the result is declared in the condition", runs(condition_with_declaration));
        safe("an alias", runs(any_declaration));
        safe("a variable in an inner block", runs(declaration_further_down));
        safe("no co_await in the condition", runs(co_await_in_the_branch));
    }

    TEST_CASE("g++ 12 destroys the captures of a temporary lambda twice if its expression awaits") {
        defect_of_gcc_12("by value", alive_after(lambda_by_value) == -1);
        defect_of_gcc_12("by reference", alive_after(lambda_by_reference) == -1);
        defect_of_gcc_12("called at once", alive_after(lambda_that_is_called) == -1);
        defect_of_gcc_12("with an init capture", alive_after(lambda_with_moved_capture) == -1);
        defect_of_gcc_12("in a std::function", alive_after(lambda_in_a_function) == -1);
        defect_of_gcc_12("beside another co_await", alive_after(lambda_beside_the_await) == -1);
    }

    TEST_CASE("a lambda that has a name, or captures no object, is destroyed once") {
        safe("named, then moved", alive_after(named_lambda) == 0);
        safe("the awaitable is named", alive_after(named_awaitable) == 0);
        safe("captured by reference", alive_after(capture_by_reference) == 0);
        safe("captured a number", alive_after(trivial_capture) == 0);
        safe("std::bind_front", alive_after(bound_argument) == 0);
        safe("in a statement of its own", alive_after(lambda_in_another_statement) == 0);
    }

    TEST_CASE("g++ 12 destroys the members of a temporary aggregate twice if its expression awaits") {
        defect_of_gcc_12("by value", alive_after(aggregate_by_value) == -1);
        defect_of_gcc_12("by reference", alive_after(aggregate_by_reference) == -1);
        defect_of_gcc_12("from braces", alive_after(aggregate_from_braces) == -1);
    }

    TEST_CASE("an aggregate that has a name, or a class with a constructor, is destroyed once") {
        safe("named", alive_after(aggregate_named) == 0);
        safe("constructor", alive_after(class_with_constructor) == 0);
    }

    TEST_CASE("g++ 12 destroys a class object that ?: chooses twice if its expression awaits") {
        defect_of_gcc_12("class", alive_after(class_in_conditional) == -1);
        defect_of_gcc_12("awaited", alive_after(awaited_conditional) == -1);
        defect_of_gcc_12("argument", alive_after(conditional_argument) == -1);
        safe("named", alive_after(named_conditional) == 0);
        safe("if and else", alive_after(class_in_if) == 0);
        safe("scalar", alive_after(scalar_in_conditional) == 0);
    }

    TEST_CASE("structured bindings of an awaited value are destroyed, except by g++ 15 and 16") {
        const int alive = alive_after(structured_binding);
        if constexpr (here == compiler::newer_gcc)
            MESSAGE("g++ " << __GNUC__ << " leaves " << alive << " objects alive");
        else
            CHECK(alive == 0);
        safe("named", alive_after(named_pair) == 0);
    }

    TEST_CASE("CPP-01: a million awaits in a loop do not grow the stack") {
        stack_span stack;
        CHECK(await_in_a_loop(stack, 1'000'000).run() == 1'000'000);
        CHECK(stack.bytes() < 4096);
    }
}
