#pragma once

#include <magpie/core/detail/composite_operation.hpp>

#include <utility>

namespace magpie::detail {

/// The base of `shield` and `with`. Other operations that find no budget left yield before they
/// begin, and may be cancelled there. These begin whenever they are awaited, and yield at their end.
template <class Derived, class Branches>
class cleanup_operation : public composite_operation<Derived, Branches> {
public:
    using composite_operation<Derived, Branches>::composite_operation;

    bool await_ready() noexcept {
        const bool had_budget = this->has_budget();
        const bool over = static_cast<Derived&>(*this).try_complete();
        yields_ = over && !had_budget;
        if (over && had_budget)
            this->take_budget();
        return over && had_budget;
    }

    bool publish() noexcept {
        if (yields_)
            this->defer();
        return true;
    }

protected:
    cleanup_operation(cleanup_operation&&) = default;
    ~cleanup_operation() = default;

private:
    bool yields_ = false; // over, but its turn's budget was spent
};

} // namespace magpie::detail
