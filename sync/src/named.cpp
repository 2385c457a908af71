#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/immortal.hpp>
#include <magpie/sync/named.hpp>

#include <utility>
#include <vector>

namespace magpie::sync {
namespace detail {

class all_names {
public:
    void add(name_entry& e) noexcept {
        const magpie::detail::lock_guard guard(lock_);
        e.next_ = std::exchange(first_, &e);
        if (e.next_ != nullptr)
            e.next_->previous_ = &e;
    }
    void remove(name_entry& e) noexcept {
        const magpie::detail::lock_guard guard(lock_);
        (e.previous_ != nullptr ? e.previous_->next_ : first_) = e.next_;
        if (e.next_ != nullptr)
            e.next_->previous_ = e.previous_;
    }
    std::vector<named_object> list() {
        std::vector<named_object> all;
        const magpie::detail::lock_guard guard(lock_);
        for (const name_entry* e = first_; e != nullptr; e = e->next_)
            all.push_back({e->text(), e->object(), e->type_});
        return all;
    }

private:
    magpie::detail::mutex lock_;
    name_entry* first_ = nullptr;
};

namespace {

// Never destroyed: static objects may have names.
all_names& names() noexcept { return magpie::detail::immortal<all_names>(); }

} // namespace

name_entry::name_entry(object_name name, const void* object, const std::type_info& type) noexcept
    : name_(name), type_(type),
      offset_(reinterpret_cast<const std::byte*>(this) - static_cast<const std::byte*>(object)) {
    names().add(*this);
}

name_entry::name_entry(name_entry&& other) noexcept
    : name_(other.name_), type_(other.type_), offset_(other.offset_) {
    names().add(*this);
}

name_entry::~name_entry() { names().remove(*this); }

} // namespace detail

std::vector<named_object> named_objects() { return detail::names().list(); }

} // namespace magpie::sync
