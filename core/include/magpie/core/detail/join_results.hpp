#pragma once

#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/detail/outcome.hpp>
#include <magpie/core/error.hpp>

#include <cstddef>
#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

// How the results of a join are put together. Every branch is taken to its end, whatever is thrown
// on the way: their frames have to be gone when the join is (R15).

namespace magpie::detail {

/// What came of a branch that has ended.
template <class Branch>
task_result<typename Branch::value_type> take_outcome(Branch& b) noexcept {
    using result = task_result<typename Branch::value_type>;
    try {
        if constexpr (requires { b.take_error(); })
            if (std::exception_ptr error = b.take_error())
                return result(boost::system::in_place_error, std::move(error));
        if constexpr (std::is_void_v<typename Branch::value_type>) {
            b.take();
            return result(boost::system::in_place_value);
        } else {
            return result(boost::system::in_place_value, b.take());
        }
    } catch (...) {
        return result(boost::system::in_place_error, std::current_exception());
    }
}

/// The value of a coroutine branch that has one, and whose frame is gone.
template <class Branch>
composite_value_t<typename Branch::value_type> settled_value(Branch& b) {
    if constexpr (std::is_void_v<typename Branch::value_type>) {
        b.take_settled();
        return {};
    } else {
        return b.take_settled();
    }
}

template <class Branches>
class join_results;

template <class... Branches>
class join_results<branch_tuple<Branches...>> {
public:
    using values = std::tuple<composite_value_t<typename Branches::value_type>...>;
    using outcomes = std::tuple<task_result<typename Branches::value_type>...>;

    /// The values. `keep` is told each exception, and fills `first`.
    template <class Keep>
    static values take(branch_tuple<Branches...>& all, const std::exception_ptr& first, Keep keep) {
        return take_each(all, first, keep, std::index_sequence_for<Branches...>());
    }
    static constexpr bool in_one_pass = false;
    /// Whether values are taken without a chance to throw.
    static constexpr bool nothrow =
        (std::is_nothrow_move_constructible_v<composite_value_t<typename Branches::value_type>> && ...);
    /// The values of coroutine branches that all have one, and whose frames are gone.
    static values take_settled(branch_tuple<Branches...>& all) noexcept {
        return take_all_settled(all, std::index_sequence_for<Branches...>());
    }
    static outcomes take_outcomes(branch_tuple<Branches...>& all) {
        return outcomes_of(all, std::index_sequence_for<Branches...>());
    }

private:
    template <std::size_t... I>
    static values take_all_settled(branch_tuple<Branches...>& all, std::index_sequence<I...>) noexcept {
        return values(settled_value(all.template get<I>())...);
    }

    template <class Keep, std::size_t... I>
    static values take_each(branch_tuple<Branches...>& all, const std::exception_ptr& first, Keep& keep,
                            std::index_sequence<I...>) {
        std::tuple<outcome<composite_value_t<typename Branches::value_type>>...> taken;
        const auto guarded = [&](auto step) noexcept {
            try {
                step();
            } catch (...) {
                keep(std::current_exception());
            }
        };
        (guarded([&] { std::get<I>(taken).emplace(take_value(all.template get<I>())); }), ...);
        if (first) {
            (guarded([&] { std::get<I>(taken).reset(); }), ...);
            std::rethrow_exception(first);
        }
        return values(std::get<I>(taken).take()...);
    }

    template <std::size_t... I>
    static outcomes outcomes_of(branch_tuple<Branches...>& all, std::index_sequence<I...>) {
        return outcomes{take_outcome(all.template get<I>())...}; // braces: in order
    }
};

template <class Branch>
class join_results<branch_list<Branch>> {
    using value_type = typename Branch::value_type;

public:
    using values = std::conditional_t<std::is_void_v<value_type>, void,
                                      std::vector<composite_value_t<value_type>>>;
    using outcomes = std::vector<task_result<value_type>>;

    template <class Keep>
    static values take(branch_list<Branch>& all, const std::exception_ptr& first, Keep keep) {
        const auto guarded = [&](auto step) noexcept {
            try {
                step();
            } catch (...) {
                keep(std::current_exception());
            }
        };
        if constexpr (std::is_void_v<value_type>) {
            all.any([&](Branch& b) {
                guarded([&] { b.take(); });
                return false;
            });
            if (first)
                std::rethrow_exception(first);
        } else {
            values taken;
            guarded([&] { taken.reserve(all.size()); });
            all.any([&](Branch& b) {
                guarded([&] { taken.push_back(take_value(b)); });
                return false;
            });
            if (first) {
                while (!taken.empty()) // one by one: a destructor may throw
                    guarded([&] { taken.pop_back(); });
                std::rethrow_exception(first);
            }
            return taken;
        }
    }

    static constexpr bool nothrow = std::is_void_v<value_type> ||
                                    std::is_nothrow_move_constructible_v<composite_value_t<value_type>>;
    static values take_settled(branch_list<Branch>& all) {
        if constexpr (!std::is_void_v<value_type>) {
            values taken;
            taken.reserve(all.size());
            all.any([&](Branch& b) {
                taken.push_back(settled_value(b));
                return false;
            });
            return taken;
        }
    }

    /// Whether values can be taken before it is known that all are there: they are copied.
    static constexpr bool in_one_pass = std::is_trivial_v<composite_value_t<value_type>> &&
                                        !std::is_void_v<value_type>;
    /// Settles the branches and takes their values. False if some have none. @throws std::bad_alloc
    template <class Values>
    static bool settle_and_take(branch_list<Branch>& all, Values& taken) {
        try {
            taken = Values(all.size());
        } catch (...) { // no memory: their frames go all the same (R15)
            all.any([](Branch& b) {
                b.settle();
                return false;
            });
            throw;
        }
        auto at = taken.begin();
        bool settled = true;
        all.any([&](Branch& b) {
            settled &= b.settle();
            if (settled)
                *at++ = settled_value(b);
            return false;
        });
        if (settled)
            all.forget_settled();
        return settled;
    }

    static outcomes take_outcomes(branch_list<Branch>& all) {
        outcomes taken;
        std::exception_ptr no_memory;
        try {
            taken.reserve(all.size());
        } catch (...) {
            no_memory = std::current_exception();
        }
        all.any([&](Branch& b) {
            auto came = take_outcome(b);
            if (!no_memory)
                taken.push_back(std::move(came));
            return false;
        });
        if (no_memory)
            std::rethrow_exception(no_memory);
        return taken;
    }
};

} // namespace magpie::detail
