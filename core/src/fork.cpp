#include <magpie/core/fork_join.hpp>

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/parallel_loop.hpp>

#include <new>
#include <utility>

namespace magpie::detail {

/// The strand of a child that a taker runs.
class fork_cell final : public cell {
public:
    explicit fork_cell(fork_record& r) noexcept
        : cell(r.owner().where_it_runs(), parent(r)), end_(*this), record_(r),
          context_(static_cast<const branch&>(r).context()) {
        unconstrained = r.unconstrained;
        set_root(*r.take_root());
        retain(); // one for the parent, until it has heard of the end
        void* nobody = nullptr;
        // Success: (K). Failure: relaxed, the record's address was all that came.
        if (!r.taker_.compare_exchange_strong(nobody, this, std::memory_order_release,
                                              std::memory_order_relaxed))
            abort();
    }

private:
    /// The end, as the parent's strand meets it: a branch of it that waits for this one.
    class end final : public leaf, public branch {
    public:
        explicit end(fork_cell& c) noexcept : cell_(c) {}
        void wait_below(const branch& parent) noexcept {
            place_below(parent);
            start_leaf();
            bind(*this);
        }

    private:
        cancel_answer cancel() noexcept override { return cancel_answer::coming; }
        std::coroutine_handle<> ended() noexcept override {
            fork_record& r = cell_.record_;
            exchange_running(&r); // this one goes
            const bool has_result = cell_.has_result_;
            cell_.pass_attached(parent(r));
            cell_.release(); // *this may be gone
            return r.ended_elsewhere(has_result);
        }
        std::coroutine_handle<> gone() noexcept override { return std::noop_coroutine(); }
        void note(std::exception_ptr) noexcept override {} // it has no frames that could throw

        fork_cell& cell_;
    };

    // The strands whose tasks fork are cells, and outlive what they have forked.
    static cell& parent(const fork_record& r) noexcept { return static_cast<cell&>(r.owner()); }

    // Where its tasks are counted, registered and reported it does not appear: it is part of its parent's,
    // which will abort it.
    bool may_sleep() noexcept override { return true; }
    const task_context* context() const noexcept override { return context_; }
    void finish() noexcept override {
        has_result_ = has_result_ || state() == phase::ended;
        destroy_root();
        end_.wait_below(record_);
        wake(end_); // the parent may be gone
        release();
    }
    void note(std::exception_ptr e) noexcept override {
        has_result_ = true;
        leaf_access::note(record_, std::move(e));
    }
    std::exception_ptr error() const noexcept override { return nullptr; }
    void drop_result() override {}

    end end_;
    fork_record& record_;
    const task_context* const
        context_; // as it was at the fork; to ask upwards would take a step a fork
    bool has_result_ = false;
};

template <class Take>
cell* fork_lane::take_as_strand(Take take) noexcept {
    if (size() == 0)
        return nullptr;
    void* memory;
    try {
        memory = cell::operator new(sizeof(fork_cell));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
    fork_record* const r = take();
    if (r == nullptr) {
        cell::operator delete(memory, sizeof(fork_cell));
        return nullptr;
    }
    return ::new (memory) fork_cell(*r);
}

cell* fork_lane::take_newest() noexcept {
    open(); // of a turn that goes on elsewhere there may be some that are kept
    return take_as_strand([this] { return pop(); });
}
cell* fork_lane::take_oldest() noexcept {
    return take_as_strand([this] { return steal(); });
}

void* fork_record::revoked() noexcept {
    static char mark;
    return &mark;
}

cancel_answer fork_record::request_cancel() noexcept {
    if (state() != phase::unstarted)
        return owned_branch::request_cancel();
    if (!offered_)
        return cancel_answer::quiet; // here, and not begun
    if (fork_lane* const lane = fork_lane::here(owner().where_it_runs());
        lane != nullptr && take_back(*lane))
        return cancel_answer::quiet;
    come_from_elsewhere();
    // Acquire: (K). No release: a taker that finds it revoked looks at nothing else.
    if (void* const taker = taker_.exchange(revoked(), std::memory_order_acquire))
        static_cast<fork_cell*>(taker)->abort();
    return cancel_answer::coming;
}

std::coroutine_handle<> fork_record::ended_elsewhere(bool has_result) noexcept {
    const bool was_dropped = is_coming();
    // An exception that came in spite of the drop (R16) is not dropped with it.
    end_elsewhere(has_result && !(was_dropped && has_error()));
    if (was_dropped)
        return composite().branch_gone(*this);
    if (has_result)
        return composite().branch_ended(*this);
    // Only a runtime that closes drops a child by itself; then it drops the parent as well.
    static_cast<cell&>(owner()).abort();
    return std::noop_coroutine();
}

bool should_offer(bool though_stocked) noexcept {
    const fork_lane* const lane = this_thread().forks;
    return lane != nullptr && lane->has_thieves() && (though_stocked || lane->size() == 0);
}

void check_fork_place() {
    if (this_thread().turn == nullptr) [[unlikely]]
        throw_usage_error("fork_join outside of a task: call it in one, which a runtime runs "
                          "(rt.block_on, magpie::run, spawn)");
}

} // namespace magpie::detail
