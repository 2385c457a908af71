// doctest's implementation, compiled once for all test programs.
//
// ctest runs a program once a test suite. A misspelt suite would select nothing and pass, so here a
// run that selects nothing fails.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <test/listener.hpp>
#include <test/prepare.hpp>

#include <cstdio>

namespace test {
void (*prepare)(doctest::Context& context) = nullptr;
}

namespace {
unsigned selected = 0;

struct count_selected : test::listener {
    explicit count_selected(const doctest::ContextOptions&) {}
    void test_run_end(const doctest::TestRunStats& stats) override {
        selected = stats.numTestCasesPassingFilters;
    }
};
REGISTER_LISTENER("count_selected", 1, count_selected);
} // namespace

int main(int argc, char** argv) {
    doctest::Context context(argc, argv);
    if (test::prepare != nullptr)
        test::prepare(context);
    const int result = context.run();
    if (context.shouldExit()) // --help, --list-test-cases and the like
        return result;
    if (selected == 0) {
        std::fputs("no test case has been selected: is the name of the suite right?\n", stderr);
        return 1;
    }
    return result;
}
