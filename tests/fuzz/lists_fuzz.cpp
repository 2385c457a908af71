// The intrusive lists against lists of the standard library: those of waiters, of a group's tasks, and of a
// worker's recent tasks.

#include "script.hpp"

#include <magpie/core/strand.hpp>
#include <magpie/scheduler/detail/task_list.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <list>
#include <memory>
#include <optional>
#include <utility>

namespace {

using magpie::detail::task_list;
using magpie::detail::task_list_node;
using magpie::sync::detail::place_list;
using magpie::sync::detail::place_wake_list;
using magpie::sync::detail::wait_node;
using magpie::sync::detail::wait_place;
using test::require;

constexpr std::size_t many = 24;

/// A leaf that nobody wakes.
class idle_leaf final : public magpie::leaf {
    magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::quiet; }
};

// --- waiters ---

class waiters {
public:
    waiters() {
        for (auto& p : places_)
            p.emplace(leaf_);
    }
    ~waiters() {
        for (auto& p : places_)
            if (p->is_listed())
                list_.remove(*p);
    }

    void push(std::size_t i, bool front) {
        wait_place& p = *places_[i];
        if (p.is_listed())
            return;
        if (front)
            list_.push_front(p), model_.push_front(i);
        else
            list_.push_back(p), model_.push_back(i);
    }
    void remove(std::size_t i) {
        if (!places_[i]->is_listed())
            return;
        list_.remove(*places_[i]);
        model_.remove(i);
    }
    /// Takes some out to be woken: any, the first few, or all.
    void take(test::script& s) {
        place_wake_list woken;
        std::deque<std::size_t> expected;
        if (s.below(4) == 0) {
            woken.take_all(list_);
            expected.assign(model_.begin(), model_.end());
            model_.clear();
        }
        for (std::size_t n = s.below(8); n > 0 && !model_.empty(); --n) {
            auto which = s.below(2) == 0
                             ? model_.begin()
                             : std::next(model_.begin(),
                                         static_cast<std::ptrdiff_t>(s.below(model_.size())));
            woken.take(list_, *places_[*which]);
            expected.push_back(*which);
            model_.erase(which);
        }
        for (const std::size_t i : expected) {
            wait_place* const p = woken.pop();
            require(p == &*places_[i], "they are woken in the order in which they were taken");
            require(!p->is_listed(), "who was taken is in no list");
        }
        require(woken.pop() == nullptr, "nobody else is woken");
    }
    void look() const {
        require(list_.empty() == model_.empty(), "empty");
        require(list_.front() == (model_.empty() ? nullptr : &*places_[model_.front()]), "front");
        require(list_.back() == (model_.empty() ? nullptr : &*places_[model_.back()]), "back");
        for (std::size_t i = 0; i < many; ++i)
            require(places_[i]->is_listed() ==
                        (std::find(model_.begin(), model_.end(), i) != model_.end()),
                    "listed is who is in the list");
    }

private:
    idle_leaf leaf_;
    mutable std::array<std::optional<wait_place>, many> places_;
    place_list list_;
    std::list<std::size_t> model_;
};

// --- the tasks of a group ---

class group {
public:
    void insert(std::size_t i, test::script& s) {
        if (is_in_[i])
            return;
        is_in_[i] = true;
        if (model_.empty() || s.below(2) == 0) {
            list_.push_back(nodes_[i]);
            model_.push_back(i);
            return;
        }
        const auto before = std::next(model_.begin(),
                                      static_cast<std::ptrdiff_t>(s.below(model_.size())));
        list_.insert(&nodes_[*before], nodes_[i]);
        model_.insert(before, i);
    }
    void remove(std::size_t i) {
        if (!std::exchange(is_in_[i], false))
            return;
        list_.remove(nodes_[i]);
        model_.remove(i);
    }
    void move() {
        task_list other = std::move(list_);
        require(list_.size() == 0 && list_.first() == nullptr && list_.last() == nullptr,
                "what was moved from is empty");
        list_ = std::move(other);
    }
    void look() const {
        require(list_.size() == model_.size(), "size");
        const task_list_node* n = list_.first();
        const task_list_node* before = nullptr;
        for (const std::size_t i : model_) {
            require(n == &nodes_[i] && n->previous == before, "order, and the way back");
            before = std::exchange(n, n->next);
        }
        require(n == nullptr && list_.last() == before, "the end");
    }

private:
    std::array<task_list_node, many> nodes_{};
    std::array<bool, many> is_in_{};
    task_list list_;
    std::list<std::size_t> model_;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    test::script s(data, std::min<std::size_t>(size, 4096));
    waiters w;
    group g;
    while (!s.over()) {
        switch (s.below(8)) {
        case 0: w.push(s.below(many), false); break;
        case 1: w.push(s.below(many), true); break;
        case 2: w.remove(s.below(many)); break;
        case 3: w.take(s); break;
        case 4:
        case 5: g.insert(s.below(many), s); break;
        case 6: g.remove(s.below(many)); break;
        default: g.move();
        }
        w.look();
        g.look();
    }
    return 0;
}
