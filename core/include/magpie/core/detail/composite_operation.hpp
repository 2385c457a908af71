#pragma once

#include <magpie/core/detail/composite.hpp>
#include <magpie/core/detail/frame_allocator.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

// What the composites of several branches (join, select, timeout) have in common: the branches, and
// how those that are not wanted any more go.

namespace magpie::detail {

/// A `T` as a member of a result: void as a monostate, references as reference_wrappers.
template <class T>
struct composite_value {
    using type = T;
};
template <>
struct composite_value<void> {
    using type = std::monostate;
};
template <class T>
struct composite_value<T&> {
    using type = std::reference_wrapper<T>;
};
template <class T>
using composite_value_t = typename composite_value<T>::type;

/// The value of a branch that has ended, or its exception.
template <class Branch>
composite_value_t<typename Branch::value_type> take_value(Branch& b) {
    if constexpr (std::is_void_v<typename Branch::value_type>) {
        b.take();
        return {};
    } else {
        return b.take();
    }
}

/// As safe as the least safe of several.
template <class... Branches>
constexpr cancel_safety least_safe() noexcept {
    if constexpr (((Branches::safety == cancel_safety::lossy) || ...))
        return cancel_safety::lossy;
    else if constexpr (((Branches::safety == cancel_safety::unknown) || ...))
        return cancel_safety::unknown;
    else
        return cancel_safety::safe;
}

/// A branch of a tuple.
template <std::size_t I, class Branch>
class branch_place {
public:
    branch_place() = default;
    template <class Make>
    branch_place(std::in_place_t, Make& make) : here(make()) {}

    Branch here;
};

template <class Places, class... Branches>
class branch_places;
template <std::size_t... I, class... Branches>
class branch_places<std::index_sequence<I...>, Branches...> : branch_place<I, Branches>... {
public:
    branch_places() = default;
    template <class... Make>
    explicit branch_places([[maybe_unused]] std::in_place_t at, Make&... make)
        : branch_place<I, Branches>(at, make)... {}

    template <std::size_t J>
    auto& get() noexcept {
        return at<J>(*this);
    }

private:
    template <std::size_t J, class Branch>
    static Branch& at(branch_place<J, Branch>& place) noexcept {
        return place.here;
    }
};

/// Branches of different types.
template <class... Branches>
class branch_tuple {
public:
    static constexpr cancel_safety safety = least_safe<Branches...>();

    branch_tuple() = default;
    /// What each of `make` gives: a branch, made where it stands.
    template <class... Make>
    explicit branch_tuple(std::in_place_t at, Make&... make) : branches_(at, make...) {}

    /// Calls `f(branch)` in order until it returns true. Whether it did.
    template <class F>
    [[gnu::always_inline]] bool any(F f) {
        return any(f, std::index_sequence_for<Branches...>());
    }
    /// Calls `f` for the one that `b` is.
    template <class F>
    void visit(const branch& b, F f) {
        any([&](auto& mine) {
            const bool found = static_cast<const branch*>(&mine) == &b;
            if (found)
                f(mine);
            return found;
        });
    }
    static constexpr std::size_t size() noexcept { return sizeof...(Branches); }
    template <std::size_t I>
    auto& get() noexcept {
        return branches_.template get<I>();
    }

private:
    // Not by std::apply: what f refers to stays in registers if all of it is inlined.
    template <class F, std::size_t... I>
    [[gnu::always_inline]] bool any(F& f, std::index_sequence<I...>) {
        return (f(branches_.template get<I>()) || ...);
    }

    branch_places<std::index_sequence_for<Branches...>, Branches...> branches_;
};

/// How the elements of a range are passed on: of a container that is given away, as rvalues.
template <class R>
using passed_element =
    std::conditional_t<std::is_lvalue_reference_v<R> || std::ranges::view<std::remove_cvref_t<R>>,
                       std::ranges::range_reference_t<R>, std::ranges::range_rvalue_reference_t<R>>;

/// A range, and what makes branches of its elements.
template <class R, class Make>
class range_of_branches {
public:
    using made = decltype(std::declval<Make&>()(std::declval<passed_element<R>>()));

    range_of_branches(R&& range, Make make) noexcept
        : range(std::forward<R>(range)), make(std::move(make)) {}

    R&& range;
    Make make;
};
template <class R, class Make>
range_of_branches(R&&, Make) -> range_of_branches<R, Make>;

/// Any number of branches of one type, in one block of recycled memory. They are moved with it at most,
/// as long as none has started.
template <class Branch>
class branch_list {
public:
    static constexpr cancel_safety safety = Branch::safety;

    /// A branch from what is made of each element.
    template <class R, class Make>
    explicit branch_list(std::in_place_t, range_of_branches<R, Make>& source) : branch_list() {
        if constexpr (std::ranges::sized_range<R>) {
            fill(std::ranges::size(source.range), source);
        } else if constexpr (std::ranges::forward_range<R>) {
            fill(std::ranges::distance(source.range), source);
        } else { // it can be walked once, and says how many they were at its end
            std::vector<typename range_of_branches<R, Make>::made> made;
            for (auto&& element : source.range)
                made.push_back(source.make(static_cast<passed_element<R>>(element)));
            allocate(made.size());
            for (auto& m : made)
                add(std::move(m));
        }
    }
    branch_list(branch_list&& other) noexcept
        : first_(std::exchange(other.first_, nullptr)), size_(std::exchange(other.size_, 0)),
          capacity_(other.capacity_) {}
    branch_list& operator=(const branch_list&) = delete;
    ~branch_list() {
        std::destroy_n(first_, size_);
        if (first_ != nullptr)
            recycling_allocator<Branch>().deallocate(first_, capacity_);
    }

    template <class F>
    [[gnu::always_inline]] bool any(F f) {
        Branch* const end = first_ + size_;
        for (Branch* b = first_; b != end; ++b)
            if (f(*b))
                return true;
        return false;
    }
    template <class F>
    void visit(branch& b, F f) {
        f(static_cast<Branch&>(b));
    }
    std::size_t size() const noexcept { return size_; }

    /// Of branches that are settled, with trivial values: nothing is left to be destroyed.
    void forget_settled() noexcept { size_ = 0; }

private:
    branch_list() = default;

    void allocate(std::size_t n) {
        if (n > 0)
            first_ = recycling_allocator<Branch>().allocate(n);
        capacity_ = n;
    }
    template <class Made>
    void add(Made&& made) {
        MAGPIE_ASSERT(size_ < capacity_);
        std::construct_at(first_ + size_, std::forward<Made>(made));
        ++size_;
    }
    template <class Size, class R, class Make>
    void fill(Size n, range_of_branches<R, Make>& source) {
        allocate(static_cast<std::size_t>(n));
        const auto end = std::ranges::end(source.range);
        for (auto i = std::ranges::begin(source.range); i != end; ++i)
            add(source.make(static_cast<passed_element<R>>(*i)));
    }

    Branch* first_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

/// An operation that owns branches.
template <class Derived>
class owning_operation : public operation<Derived>, protected branch_owner {
protected:
    owning_operation() noexcept = default;
    owning_operation(owning_operation&&) noexcept = default;
    ~owning_operation() = default;
};

/// The branches of a composite, and how those that are not wanted any more go. `Leaf` is what the
/// composite is to the branch that awaits it, and to its branches; what derives adds `branch_ended`, and
/// destroys what stands in its `await_resume` (R15).
template <class Leaf, class Branches>
class composite_leaf : public Leaf {
public:
protected:
    composite_leaf() = default;
    /// The branches are made where they stand.
    template <class... Make>
    explicit composite_leaf(std::in_place_t at, Make&... make) : branches_(at, make...) {}
    composite_leaf(composite_leaf&&) = default;
    [[gnu::always_inline]] ~composite_leaf() = default;

    std::exception_ptr discard() noexcept override { return discard_but(nullptr); }

    /// Cancels every branch that runs, in order. Whether all are quiet: then their frames stand until
    /// `await_resume`, or `discard`.
    bool cancel_running() noexcept {
        coming_ = 0;
        bool frames = false;
        branches_.any([&](auto& b) {
            if (b.request_cancel() == cancel_answer::coming)
                ++coming_;
            frames = frames || b.holds_frames();
            return false;
        });
        // What is quiet does not stand until the others have come: it may hold what they wait for.
        if (coming_ > 0 && frames && !this->is_stepping())
            this->step_later();
        return coming_ == 0 && !this->is_stepping();
    }

    /// Destroys all but one of the branches. Gives the first exception that a destructor threw.
    std::exception_ptr discard_but(const branch* kept) noexcept {
        std::exception_ptr first;
        branches_.any([&](auto& b) {
            if (&b != kept && !b.is_coming())
                if (std::exception_ptr error = b.discard())
                    keep_first(first, std::move(error));
            return false;
        });
        return first;
    }

    void keep_first(std::exception_ptr& first, std::exception_ptr error) noexcept {
        detail::keep_first(this->owner(), first, std::move(error));
    }

    Branches branches_;

private:
    std::coroutine_handle<> branch_gone(branch&) noexcept override {
        return --coming_ > 0 || this->is_stepping() ? std::noop_coroutine() : this->surface();
    }

    std::coroutine_handle<> step() noexcept override {
        if (this->is_dropped()) { // what has ended may hold as much as what is quiet
            if (std::exception_ptr error = discard())
                leaf_access::note(*this->where(), std::move(error));
        } else {
            branches_.any([](auto& b) {
                b.clear();
                return false;
            });
        }
        return coming_ > 0 ? std::noop_coroutine() : this->surface();
    }

    cancel_answer cancel() noexcept override {
        if (cancel_running())
            return cancel_answer::quiet;
        if (!this->is_stepping())
            this->step_later();
        return cancel_answer::coming;
    }

    std::size_t coming_ = 0; // branches that were cancelled and have not surfaced
};

/// The same for a composite that ends with the first failure.
template <class Leaf, class Branches>
class fail_fast_leaf : public composite_leaf<Leaf, Branches> {
protected:
    using composite_leaf<Leaf, Branches>::composite_leaf;
    fail_fast_leaf(fail_fast_leaf&&) = default;
    ~fail_fast_leaf() = default;

    bool has_failed() const noexcept { return failed_ != nullptr; }

    /// Looks what a branch that has ended has come to.
    void look_at(branch& b) noexcept {
        this->branches_.visit(b, [&](auto& mine) {
            if (mine.has_failed())
                failed_ = &mine;
        });
    }

    /// The exception that ends it. The other branches are destroyed.
    std::exception_ptr take_failure() noexcept {
        std::exception_ptr of_siblings = this->discard_but(failed_);
        std::exception_ptr first;
        this->branches_.visit(*failed_, [&](auto& mine) { first = mine.take_error(); });
        if (of_siblings)
            this->keep_first(first, std::move(of_siblings));
        return first;
    }

private:
    branch* failed_ = nullptr;
};

/// The base of a composite operation whose branches start in its `try_complete`.
template <class Derived, class Branches,
          class Base = composite_leaf<owning_operation<Derived>, Branches>>
class composite_operation : public Base {
public:
    composite_operation() = default;
    template <class... Make>
    explicit composite_operation(std::in_place_t at, Make&... make) : Base(at, make...) {}
    composite_operation(composite_operation&&) = default;

    bool publish() noexcept { return true; } // a branch that waits, or is coming, resumes it

protected:
    ~composite_operation() = default;

    /// To be called first in `try_complete`: false if it was awaited before.
    bool begin() noexcept {
        awaited_twice_ = std::exchange(begun_, true);
        return !awaited_twice_;
    }
    /// To be called first in `await_resume`.
    void check() const {
        if (awaited_twice_) [[unlikely]]
            throw_usage_error(
                "this join, select, timeout or the like was awaited before: its branches are gone; "
                "make a new one for each wait");
    }

private:
    bool begun_ = false;
    bool awaited_twice_ = false;
};

} // namespace magpie::detail
