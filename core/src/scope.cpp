#include <magpie/core/detail/scope_state.hpp>

#include <magpie/core/scope_error.hpp>
#include <magpie/core/unhandled.hpp>

#include <new>
#include <string>
#include <utility>

namespace magpie {

// --- what a scope throws ---

namespace {

std::string describe_failures(const std::vector<task_failure>& failures) {
    if (failures.empty())
        return "no task of the scope has succeeded";
    std::string text = failures.size() == 1
                           ? "a task of the scope has failed:"
                           : std::to_string(failures.size()) + " tasks of the scope have failed:";
    const char* separator = " ";
    for (const task_failure& f : failures) {
        text += std::exchange(separator, "; ");
        text += "task " + std::to_string(f.task_id);
        if (!f.task_name.empty())
            text += " \"" + f.task_name + "\"";
        text += std::string(", spawned at ") + f.where.file_name() + ":" +
                std::to_string(f.where.line()) + ": ";
        text += describe(f.error);
    }
    return text;
}

} // namespace

scope_error::scope_error(std::vector<task_failure> failures)
    : std::runtime_error(describe_failures(failures)),
      failures_(std::make_shared<const std::vector<task_failure>>(std::move(failures))) {}

namespace detail {
namespace {

task_failure failure_of(const cell& c, std::exception_ptr error) {
    return {std::move(error), c.id, std::string(c.name()), c.where()};
}

} // namespace

// --- the children's side ---

scope_state::~scope_state() {
    if (live() > 0)
        fatal(
            "a scope is destroyed while tasks of it run: it has to be awaited to its end, and the task "
            "that awaits it is dropped by abort(), not by destroying its coroutine",
            __FILE__, __LINE__);
    discard();
}

std::size_t scope_state::live() const noexcept {
    const lock_guard guard(lock_);
    return live_;
}

bool scope_state::enter(scope_member& m, bool reserved) noexcept {
    leaf* gets_place = nullptr;
    {
        const lock_guard guard(lock_);
        if (reserved)
            --reserved_;
        if (!closed_) {
            m.scope = this;
            m.next = std::exchange(children_, &m);
            if (m.next != nullptr)
                m.next->previous = &m;
            ++live_;
            return true;
        }
        gets_place = next_place();
    }
    if (gets_place != nullptr)
        wake(*gets_place);
    return false;
}

void scope_state::abort_all() noexcept {
    {
        const lock_guard guard(lock_);
        if (std::exchange(closed_, true))
            return;
        cursor_ = children_;
    }
    for (;;) {
        cell* c;
        {
            const lock_guard guard(lock_);
            if (cursor_ == nullptr)
                return;
            c = cursor_->task;
            c->retain();
            cursor_ = cursor_->next;
        }
        c->abort(); // not under the lock: it schedules
        c->release();
    }
}

void scope_state::failed(scope_member& m) noexcept {
    {
        const lock_guard guard(lock_);
        unlink(m);
        m.next = nullptr;
        (last_failed_ != nullptr ? last_failed_->next : failed_) = &m;
        last_failed_ = &m;
        ++failures_;
        if (rule_ != scope_rule::fail_fast)
            return;
        stopped_ = true;
    }
    abort_all();
}

bool scope_state::succeeded(scope_member& m) noexcept {
    if (rule_ != scope_rule::first_success)
        return false;
    {
        const lock_guard guard(lock_);
        if (winner_ != nullptr)
            return false;
        unlink(m);
        winner_ = &m;
        stopped_ = true;
    }
    abort_all();
    return true;
}

void scope_state::leave(scope_member& m, bool was_kept) noexcept {
    leaf* watcher = nullptr;
    leaf* gets_place = nullptr;
    {
        const lock_guard guard(lock_);
        if (!was_kept)
            unlink(m);
        --live_;
        if (waits_for_end_ ? live_ == 0 : stopped_)
            watcher = std::exchange(watcher_, nullptr);
        gets_place = next_place();
    }
    if (watcher != nullptr)
        wake(*watcher);
    if (gets_place != nullptr)
        wake(*gets_place);
}

void scope_state::unlink(scope_member& m) noexcept {
    if (cursor_ == &m)
        cursor_ = m.next;
    (m.previous != nullptr ? m.previous->next : children_) = m.next;
    if (m.next != nullptr)
        m.next->previous = m.previous;
}

// --- places ---

leaf* scope_state::next_place() noexcept {
    place_operation* const p = first_waiting_;
    if (p == nullptr || live_ + reserved_ >= limit_)
        return nullptr;
    first_waiting_ = p->next_;
    (p->next_ != nullptr ? p->next_->previous_ : last_waiting_) = nullptr;
    ++reserved_;
    p->has_place_ = true;
    return p;
}

bool scope_state::try_reserve(place_operation& p) noexcept {
    const lock_guard guard(lock_);
    if (first_waiting_ != nullptr || live_ + reserved_ >= limit_)
        return false;
    ++reserved_;
    p.has_place_ = true;
    return true;
}

bool scope_state::wait_for_place(place_operation& p) noexcept {
    const lock_guard guard(lock_);
    if (first_waiting_ == nullptr && live_ + reserved_ < limit_) {
        ++reserved_;
        p.has_place_ = true;
        return false;
    }
    p.next_ = nullptr;
    p.previous_ = std::exchange(last_waiting_, &p);
    (p.previous_ != nullptr ? p.previous_->next_ : first_waiting_) = &p;
    return true;
}

cancel_answer scope_state::withdraw(place_operation& p) noexcept {
    const lock_guard guard(lock_);
    if (p.has_place_)
        return cancel_answer::coming;
    (p.previous_ != nullptr ? p.previous_->next_ : first_waiting_) = p.next_;
    (p.next_ != nullptr ? p.next_->previous_ : last_waiting_) = p.previous_;
    return cancel_answer::quiet;
}

void scope_state::give_back_place() noexcept {
    leaf* gets_place;
    {
        const lock_guard guard(lock_);
        --reserved_;
        gets_place = next_place();
    }
    if (gets_place != nullptr)
        wake(*gets_place);
}

// --- the parent's side ---

bool scope_state::wait_for_stop(leaf& l) noexcept {
    const lock_guard guard(lock_);
    if (stopped_)
        return false;
    watcher_ = &l;
    return true;
}

bool scope_state::wait_for_end(leaf& l, bool is_out) noexcept {
    const lock_guard guard(lock_);
    if (is_out && watcher_ == nullptr)
        return false;
    waits_for_end_ = true;
    if (live_ == 0) {
        watcher_ = nullptr;
        closed_ = true;
        return true;
    }
    watcher_ = &l;
    return false;
}

void scope_state::body_failed() noexcept {
    {
        const lock_guard guard(lock_);
        body_failed_after_ = failures_;
        if (rule_ == scope_rule::collect_all)
            return;
        stopped_ = true;
    }
    abort_all();
}

// From here on there are no children, and nobody else.

std::vector<task_failure> scope_state::take_failures(const std::exception_ptr& body,
                                                     const strand& parent) {
    std::vector<task_failure> all;
    all.reserve(failures_ + 1);
    const auto add_body = [&] {
        // Of one that a child has thrown, and that came to the body through its handle, there is one.
        for (const scope_member* m = failed_; m != nullptr; m = m->next)
            if (m->error == body)
                return;
        all.push_back(failure_of(static_cast<const cell&>(parent), body));
    };
    for (const scope_member* m = failed_; m != nullptr; m = m->next) {
        if (body != nullptr && body_failed_after_ == all.size())
            add_body();
        all.push_back(failure_of(*m->task, m->error));
    }
    if (body != nullptr && body_failed_after_ >= failures_)
        add_body();
    while (failed_ != nullptr)
        std::exchange(failed_, failed_->next)->task->release();
    return all;
}

std::exception_ptr scope_state::take_first_failure(std::exception_ptr body, strand& parent) noexcept {
    cell& receiver = static_cast<cell&>(parent);
    std::vector<task_failure> others;
    const auto in_spite_of_memory = [](auto step) {
        try {
            step();
        } catch (const std::bad_alloc&) { // it is reported all the same
        }
    };
    const auto keep = [&](const cell& c, const std::exception_ptr& error) {
        report_unhandled(c.where_it_runs(), {error, c.id, c.name(), c.where()});
        in_spite_of_memory([&] { others.push_back(failure_of(c, error)); });
    };
    // What a scope below this one has attached goes on with its exception.
    const auto keep_attached = [&](cell& c, const std::exception_ptr& error) {
        for (task_failure& f : c.take_attached(error))
            in_spite_of_memory([&] { others.push_back(std::move(f)); });
    };

    keep_attached(receiver, body);
    std::exception_ptr first;
    if (body != nullptr && (failed_ == nullptr || body_failed_after_ == 0))
        first = body;
    while (failed_ != nullptr) {
        scope_member& m = *std::exchange(failed_, failed_->next);
        if (first == nullptr)
            first = m.error;
        else if (m.error != first)
            keep(*m.task, m.error);
        keep_attached(*m.task, m.error);
        if (m.error == body || first == body)
            body = nullptr;
        m.task->release();
    }
    if (body != nullptr && body != first)
        keep(receiver, body);
    if (!others.empty())
        in_spite_of_memory([&] { receiver.attach(first, std::move(others)); });
    return first;
}

void scope_state::discard() noexcept {
    while (failed_ != nullptr) {
        scope_member& m = *std::exchange(failed_, failed_->next);
        const cell& c = *m.task;
        if (rule_ != scope_rule::first_success)
            report_unhandled(c.where_it_runs(), {std::move(m.error), c.id, c.name(), c.where()});
        m.task->release();
    }
    if (scope_member* const w = take_winner())
        w->task->release();
}

// --- the parent ---

bool scope_parent::begin_wait(const branch& parent, scope_state& s, owned_branch& body,
                              bool ended) noexcept {
    state_ = &s;
    body_ = &body;
    watch_branch_.place_below(parent);
    if (ended) {
        note_end();
    } else {
        bind_watch();
        out_ = s.wait_for_stop(watch_);
        if (out_)
            return false;
    }
    return settle();
}

cancel_answer scope_parent::cancel_scope() noexcept {
    state_->abort_all();
    return settle() ? cancel_answer::quiet : cancel_answer::coming;
}

std::coroutine_handle<> scope_parent::branch_ended(branch&) noexcept {
    note_end();
    return next();
}

std::coroutine_handle<> scope_parent::branch_gone(branch&) noexcept { return next(); }

std::coroutine_handle<> scope_parent::woken() noexcept {
    out_ = false;
    return next();
}

void scope_parent::note_end() noexcept {
    if (body_has_failed())
        state_->body_failed();
}

void scope_parent::bind_watch() noexcept {
    watch_.bind(watch_branch_);
    watch_branch_.start_leaf();
}

/// The body has ended, or is to stop: whether all is over. Otherwise this is called again.
bool scope_parent::settle() noexcept {
    if (body_->request_cancel() == cancel_answer::coming)
        return false;
    if (!out_) // else somebody may read it just now
        bind_watch();
    const bool over = state_->wait_for_end(watch_, out_);
    out_ = !over;
    return over;
}

} // namespace detail
} // namespace magpie
