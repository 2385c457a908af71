// Runs what the tests of core and sync give to test::run on a runtime of the layout that the environment names:
//
//     MAGPIE_TEST_LAYOUT=thread_per_core magpie_core_test
//
// With MAGPIE_TEST_BESIDE=1 also those that it is given for an executor that the test drives: what else that has
// runs there at the same time. So it is for the tests of sync, whose tasks may meet over threads; those of core
// ask their executor what it has done.
//
// and says how many cases that were. Part of the test programs that do not know the scheduler.

#include "layouts_skipped.hpp"

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/listener.hpp>
#include <test/prepare.hpp>
#include <test/run.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace {

std::string_view layout_name() {
    const char* const name = std::getenv("MAGPIE_TEST_LAYOUT");
    return name != nullptr ? name : "";
}

magpie::runtime_builder builder() {
    if (layout_name() == "multi_thread")
        return test::multi_thread();
    if (layout_name() == "thread_per_core")
        return test::thread_per_core();
    if (layout_name() == "current_thread")
        return test::current_thread();
    throw std::invalid_argument("MAGPIE_TEST_LAYOUT: multi_thread, thread_per_core or current_thread");
}

bool case_has_run = false; // the one that runs now, on the layout

class on_layout final : public test::layout_runtime {
public:
    magpie::executor& executor() override {
        return magpie::detail::executor_of(*magpie::detail::group_access::get(runtime_.handle()));
    }
    void drive(const magpie::abort_handle& root, test::manual_executor* ex) override {
        if (runtime_.layout() == magpie::layout::current_thread)
            lent_ = std::thread([this, root] { // until it has ended, or was dropped
                magpie::detail::drive_until_finished(
                    *magpie::detail::group_access::get(runtime_.handle()), root);
            });
        const auto over = [&] {
            if (ex != nullptr)
                ex->run_until_idle();
            return root.is_finished();
        };
        // All of a case: the two sides may have to wait for each other, and for a core, a thousand times.
        const bool ended = test::eventually(over, std::chrono::minutes(5));
        if (!ended)
            root.abort();
        if (lent_.joinable())
            lent_.join();
        if (!ended)
            throw std::runtime_error("the task does not end on the layout");
    }

private:
    std::thread lent_;
    const magpie::runtime runtime_ = builder().build();
};

std::unique_ptr<test::layout_runtime> make() {
    case_has_run = true;
    return std::make_unique<on_layout>();
}

/// Counts, and says it at the end.
struct counts final : test::listener {
    explicit counts(const doctest::ContextOptions&) {}
    void test_case_start(const doctest::TestCaseData&) override { case_has_run = false; }
    void test_case_end(const doctest::CurrentTestCaseStats&) override {
        ++(case_has_run ? on_it : by_hand);
    }
    void test_run_end(const doctest::TestRunStats&) override {
        if (test::make_layout_runtime == nullptr)
            return;
        std::printf("on %s: %d cases; %d have no task but those that they drive by hand, turn by turn, "
                    "or none\n",
                    std::string(layout_name()).c_str(), on_it, by_hand);
        for (const test::skipped& s : test::skipped_on_layouts)
            std::printf("skipped: %s: %s\n", s.name, s.reason);
    }

    int on_it = 0;
    int by_hand = 0;
};
REGISTER_LISTENER("layout_counts", 2, counts);

void prepare(doctest::Context& context) {
    if (layout_name().empty())
        return;
    static_cast<void>(builder()); // a name that there is none of is refused here
    test::make_layout_runtime = &make;
    test::layout_beside_executor = std::getenv("MAGPIE_TEST_BESIDE") != nullptr;
    for (const test::skipped& s : test::skipped_on_layouts) {
        std::string name = s.name;
        std::replace(name.begin(), name.end(), ',', '?'); // a comma divides filters
        context.addFilter("test-case-exclude", name.c_str());
    }
}

const bool prepared = (test::prepare = &prepare, true);

} // namespace
