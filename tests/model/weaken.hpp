#pragma once

#include "explorer.hpp"

#include <atomic> // std::memory_order
#include <compare>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

// The orders of the product's atomic operations, each weakened by one step: some scenario has to notice.

namespace magpie_model {

/// An operation in the source, with one of its orders.
struct order_site {
    std::string file; ///< "core/src/strand.cpp"
    unsigned line = 0;
    unsigned column = 0;
    std::string what;        ///< "load", ...
    bool on_failure = false; ///< the order of a compare-exchange that fails
    int order = 0;           ///< as it is in the source

    auto operator<=>(const order_site&) const = default;
};

/// What is one step weaker. Nothing for relaxed.
std::vector<std::memory_order> weaker(const order_site& s);

const char* name_of(std::memory_order o) noexcept;

/// Notes the orders that are met from here on.
void note_orders() noexcept;

/// A line for each order that was met, and back.
void print_orders(std::FILE* to);
std::optional<order_site> parse_order(const std::string& line);

/// Gives one order as another from here on.
void weaken(const order_site& s, std::memory_order to);

/// For operations.cpp: the order that the operation gets.
std::memory_order order_of(const char* what, std::memory_order order, bool on_failure,
                           const source& at);

} // namespace magpie_model
