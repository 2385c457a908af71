// Where workers are placed on a machine with 64 processors: 2 memories with 2 caches each, 8 cores at each cache, 2
// hardware threads a core.

#include <scheduler/src/placement.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>

#include <test/layouts.hpp>
#include <test/made_up_machine.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using magpie::layout;
using magpie::detail::machine;
using magpie::detail::place_workers;
using magpie::detail::runtime_options;
using test::numbers;

namespace {

std::size_t all_64() noexcept { return 64; }
std::size_t four() noexcept { return 4; }

machine of(const test::made_up_machine& m, std::vector<std::size_t> usable = numbers(0, 64)) {
    return {std::move(usable), all_64, m.root()};
}

runtime_options shards() {
    runtime_options o;
    o.layout = layout::thread_per_core;
    return o;
}

void skip(runtime_options& o, std::vector<std::size_t> cpus) {
    o.has_skip_cpus = true;
    o.skip_cpus = std::move(cpus);
}
void use(runtime_options& o, std::vector<std::size_t> cpus) {
    o.has_affinity = true;
    o.affinity = std::move(cpus);
}

/// The only complaint there is.
std::string complaint(runtime_options o, const machine& m) {
    const std::vector<std::string> wrong = place_workers(o, m);
    return wrong.size() == 1 ? wrong.front() : std::to_string(wrong.size()) + " complaints";
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_SUITE("scheduler.placement") {
    TEST_CASE("shards take a hardware thread of each core, near ones first, then the second threads") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        runtime_options o = shards();
        SUBCASE("all") {
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.worker_threads == 64);
            CHECK(o.affinity == numbers(0, 64));
        }
        SUBCASE("some") {
            o.worker_threads = 12;
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.affinity == numbers(0, 12));
        }
        SUBCASE("of those that the process may use") {
            CHECK(place_workers(o, of(m, {5, 37, 20, 6})).empty());
            CHECK(o.affinity == std::vector<std::size_t>{5, 6, 20, 37});
        }
        SUBCASE("as many as a control group allows at a time") {
            CHECK(place_workers(o, {numbers(0, 64), four, m.root()}).empty());
            CHECK(o.worker_threads == 4);
            CHECK(o.affinity == numbers(0, 4));
        }
    }

    TEST_CASE("processors that are to be skipped get no shard") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        runtime_options o = shards();
        skip(o, {0, 2, 99}); // nobody has a 99
        CHECK(place_workers(o, of(m)).empty());
        CHECK(o.worker_threads == 62);
        // 32 and 34 are the only threads of their cores now, so they go with the first threads.
        CHECK(std::find(o.affinity.begin(), o.affinity.end(), 0U) == o.affinity.end());
        CHECK(std::find(o.affinity.begin(), o.affinity.end(), 2U) == o.affinity.end());
        const auto place_of = [&](std::size_t cpu) {
            return std::find(o.affinity.begin(), o.affinity.end(), cpu) - o.affinity.begin();
        };
        CHECK(place_of(32) < 8);
        CHECK(place_of(33) >= 32);
    }

    TEST_CASE("cores that are reserved are the first ones, with both their threads") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        runtime_options o = shards();
        SUBCASE("alone") {
            o.reserve_cores = 2;
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.worker_threads == 60);
            for (const std::size_t cpu : std::vector<std::size_t>{0, 1, 32, 33})
                CHECK(std::find(o.affinity.begin(), o.affinity.end(), cpu) == o.affinity.end());
        }
        SUBCASE("of those that are not skipped") {
            skip(o, {0, 32, 1, 33});
            o.reserve_cores = 1;
            o.worker_threads = 3;
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.affinity == std::vector<std::size_t>{3, 4, 5});
        }
    }

    TEST_CASE(
        "workers that steal are bound where something is skipped or reserved, and otherwise not") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        runtime_options o;
        SUBCASE("nothing") {
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.worker_threads == 64);
            CHECK(o.affinity.empty());
        }
        SUBCASE("skipped") {
            skip(o, numbers(0, 60));
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.worker_threads == 4);
            CHECK(o.affinity == numbers(60, 4));
        }
        SUBCASE("skipped, and more workers than are left") {
            skip(o, numbers(0, 60));
            o.worker_threads = 9;
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.worker_threads == 9);
            CHECK(o.affinity == numbers(60, 4));
        }
        SUBCASE("reserved") {
            o.reserve_cores = 31;
            CHECK(place_workers(o, of(m)).empty());
            CHECK(o.affinity == std::vector<std::size_t>{31, 63});
        }
    }

    TEST_CASE("what cannot be is refused, with a sentence that says what to do") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        runtime_options o = shards();
        SUBCASE("no core to use") {
            use(o, {});
            CHECK(has(complaint(o, of(m)), "affinity: a list with no processor in it"));
        }
        SUBCASE("nothing to skip") {
            skip(o, {});
            CHECK(has(complaint(o, of(m)), "skip_cpus: a list with no processor in it"));
        }
        SUBCASE("a core that the process may not use") {
            use(o, {3, 4});
            CHECK(complaint(o, of(m, {3})) == "affinity: the process may not use processor 4");
        }
        SUBCASE("all skipped") {
            skip(o, numbers(0, 64));
            CHECK(has(complaint(o, of(m)), "no processor is left of the 64"));
        }
        SUBCASE("all reserved") {
            o.reserve_cores = 32;
            CHECK(has(complaint(o, of(m)), "no processor is left of the 64"));
        }
        SUBCASE("the rest reserved") {
            skip(o, numbers(0, 31));
            o.reserve_cores = 100;
            CHECK(has(complaint(o, of(m)), "no processor is left of the 64"));
        }
        SUBCASE("used and skipped") {
            use(o, {3, 4});
            skip(o, {4});
            CHECK(has(complaint(o, of(m)), "processor 4 is in skip_cpus as well"));
        }
        SUBCASE("used and reserved") {
            use(o, {3, 4});
            o.reserve_cores = 1;
            CHECK(has(complaint(o, of(m)), "leave one of the two out"));
        }
        SUBCASE("more shards than are left") {
            o.reserve_cores = 31;
            o.worker_threads = 3;
            CHECK(has(complaint(o, of(m)), "skip_cpus and reserve_cores leave 2"));
        }
    }

    TEST_CASE("the builder places them, and says what is wrong with all its settings at once") {
        const std::vector<std::size_t> usable = test::usable_cpus();
        auto complaint_of = [](const magpie::runtime_builder& b) -> std::string {
            try {
                static_cast<void>(b.build());
            } catch (const std::invalid_argument& e) {
                return e.what();
            }
            return "built";
        };
        const std::string none = complaint_of(magpie::runtime_builder().skip_cpus(usable).budget(0));
        CHECK(has(none, "no processor is left of the " + std::to_string(usable.size())));
        CHECK(has(none, "budget"));
        CHECK(has(complaint_of(magpie::runtime_builder().skip_cpus({})), "skip_cpus"));
        CHECK(has(complaint_of(magpie::runtime_builder().reserve_cores(100'000)), "reserve_cores"));

        const std::vector<std::size_t> all_but_last(usable.begin(), usable.end() - 1);
        if (all_but_last.empty())
            return;
        magpie::runtime_builder b;
        b.skip_cpus(all_but_last);
        for (const layout l : {layout::multi_thread, layout::thread_per_core}) {
            const magpie::runtime rt = b.layout(l).build();
            CHECK(rt.worker_threads() == 1);
            auto bound_to = []() -> magpie::task<std::vector<std::size_t>> {
                co_return test::usable_cpus();
            };
            CHECK(rt.block_on(bound_to()) == std::vector<std::size_t>{usable.back()});
        }
    }
}
