// The cell: its end against who joins it, withdraws from that, lets go, or holds a reference.

#include "support.hpp"

#include <magpie/core/unhandled.hpp>

#include <memory>
#include <stdexcept>

namespace {

using namespace model_test;
using how = spoiled::how;

// --- the end against the join ---

magpie::task<int> give_seven(tracked) { co_return 7; }

magpie::task<> joins(magpie::join_handle<int> handle, const int& destroyed, int& got) {
    got = co_await handle;
    check(destroyed == 1, "who sees the end sees the frame gone, its parameters too");
}

scenario join_and_end("join.end", [] {
    executor ex;
    int destroyed = 0;
    int got = 0;
    ex.spawn(joins(ex.spawn(give_seven(tracked(destroyed))), destroyed, got)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(got == 7, "the join gives the value");
});

mistake joins_by_store(join_and_end, "the joiner stores its leaf without comparing",
                       {"cell::wait", "compare_exchange", how::unconditional});
mistake ends_in_two(join_and_end, "the end is a load and a store",
                    {"cell::complete", "exchange", how::in_two});

// --- the end against a joiner that is dropped ---

scenario dropped_join("join.dropped", [] {
    executor ex;
    int destroyed = 0;
    int got = 0;
    auto parent = ex.spawn(joins(ex.spawn(give_seven(tracked(destroyed))), destroyed, got));
    thread("aborter", [&] { parent.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(parent.is_finished(), "the joiner has ended");
    check(destroyed == 1, "the task that was joined has ended");
    check(got == 7 || got == 0, "the value is given whole or not at all");
});

mistake withdraws_by_store(dropped_join, "the joiner withdraws without comparing",
                           {"cell::withdraw", "compare_exchange", how::unconditional});

// --- the end against the handle that goes ---

magpie::task<> fail_with_error() {
    throw std::runtime_error("nobody will receive this");
    co_return;
}

class counting_sink final : public magpie::detail::unhandled_sink {
public:
    int reports = 0;

private:
    void report(const magpie::unhandled_exception&) noexcept override { ++reports; }
};

scenario detach_and_end("join.detach", [] {
    executor ex;
    const auto sink = std::make_shared<counting_sink>();
    magpie::detail::add_unhandled_sink(ex, sink);
    auto handle = ex.spawn(fail_with_error());
    thread("owner", [&] { handle.detach(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(sink->reports == 1, "either side reports the exception, and not both");
    magpie::detail::remove_unhandled_sink(ex);
});

mistake detaches_by_store(detach_and_end, "the handle detaches without comparing",
                          {"cell::detach", "compare_exchange", how::unconditional});
mistake ends_in_two_again(detach_and_end, "the end is a load and a store",
                          {"cell::complete", "exchange", how::in_two});

// --- references ---

scenario references("join.references", [] {
    executor ex;
    int destroyed = 0;
    auto handle = ex.spawn(give_seven(tracked(destroyed)));
    auto a = handle.abort_handle();
    auto b = handle.abort_handle();
    thread("owner", [&] { handle.detach(); });
    thread("aborter", [&] {
        a.abort();
        a = {};
    });
    thread("bystander", [&] { b = {}; });
    thread("worker", [&] { ex.work(); });
    run();
    check(destroyed == 1, "the frame is gone, once");
});

mistake lets_go_in_two(references, "a reference is given back by a load and a store",
                       {"cell::release", "modify", how::in_two});
mistake believes_to_be_last(references, "who lets go believes to be the last one",
                            {"cell::release", "load", how::outdated});
mistake flag_in_two(references, "the abort flag, in the same word, is set by a load and a store",
                    {"cell::abort", "modify", how::in_two});

// --- a cell that says too early that it has ended ---

enum class order : unsigned char { right, told_first };

template <order Order>
class ordered_cell final : public magpie::detail::result_cell<int> {
public:
    ordered_cell(executor& e, std::coroutine_handle<magpie::detail::promise<int>> root)
        : result_cell<int>(e, std::source_location::current()) {
        root.promise().set_result(result_);
        set_root(root.promise());
    }

private:
    void finish() noexcept override {
        if (Order == order::right)
            destroy_root();
        where_it_runs().retire(*this);
        complete();
        if (Order == order::told_first)
            destroy_root();
    }
};

template <order Order>
void end_in_order() {
    executor ex;
    int destroyed = 0;
    int got = 0;
    auto* const c = new ordered_cell<Order>(
        ex, magpie::detail::task_access::release(give_seven(tracked(destroyed))));
    magpie::join_handle<int> handle(*c);
    static_cast<magpie::executor&>(ex).adopt(*c);
    ex.spawn(joins(std::move(handle), destroyed, got)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(got == 7, "the join gives the value");
}

scenario in_order("join.order_of_the_end", &end_in_order<order::right>);

mistake told_first(in_order, "the joiner is told before the frame is gone",
                   &end_in_order<order::told_first>);

} // namespace
