// What is inside a queue: slots that become ready, are given back and finished in any order, and the blocks they are in.

#include <magpie/sync/detail/message_queue.hpp>

#include <magpie/sync/detail/channel_memory.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <optional>
#include <vector>

namespace detail = magpie::sync::detail;

namespace {

using message = std::vector<int>; // four and more to a block
using block = detail::sized_block<message>;
using slot = detail::message_slot;
constexpr unsigned slots = block::slots;

/// One thread's queue, which counts its blocks.
class queue {
public:
    queue() = default;
    queue(const queue&) = delete;
    queue& operator=(const queue&) = delete;
    ~queue() {
        for (detail::message_block* b = tail_.take_all(); b != nullptr;) {
            detail::message_block* const before = detail::queue_tail::before(*b);
            free(b);
            b = before;
        }
        CHECK(blocks == 0);
    }

    slot append(int v) {
        if (!tail_.has_room(slots)) {
            tail_.add(*detail::make_part<block>(0U), head_, slots);
            ++blocks;
        }
        const slot s = tail_.append();
        std::construct_at(&s.value<message>(), 1, v);
        return s;
    }
    void make_ready(slot s) { tail_.make_ready(s, slots); }
    void send(int v) { make_ready(append(v)); }

    slot claim() { return head_.claim(tail_, slots); }
    void give_back(slot s) { head_.give_back(s); }
    void finish(slot s) {
        std::destroy_at(&s.value<message>());
        if (detail::message_block* const dead = head_.finish(s, slots))
            free(dead);
    }
    /// The oldest value, if it is ready.
    std::optional<int> receive() {
        const slot s = claim();
        if (!s)
            return std::nullopt;
        const int v = s.value<message>()[0];
        finish(s);
        return v;
    }

    int blocks = 0;

private:
    void free(detail::message_block* b) {
        detail::destroy_part(static_cast<block*>(b));
        --blocks;
    }

    detail::queue_head head_;
    detail::queue_tail tail_;
};

constexpr int many = 5 * static_cast<int>(slots) + 1;

} // namespace

TEST_SUITE("sync.message_queue") {
    TEST_CASE("values come in order, and an empty queue keeps one block") {
        queue q;
        CHECK_FALSE(q.claim());
        for (const int n : {1, static_cast<int>(slots), many}) {
            for (int i = 0; i < n; ++i)
                q.send(i);
            for (int i = 0; i < n; ++i)
                CHECK(q.receive() == i);
            CHECK_FALSE(q.receive());
            CHECK(q.blocks == 1);
        }
    }

    TEST_CASE("a queue whose ends follow each other takes turns with two blocks") {
        queue q;
        for (int i = 0; i < many; ++i) {
            q.send(i);
            CHECK(q.receive() == i);
            CHECK(q.blocks <= 2);
        }
    }

    TEST_CASE("one that is not ready stops those behind it, in its block and in the next ones") {
        queue q;
        const slot late = q.append(0);
        for (int i = 1; i < many; ++i)
            q.send(i);
        CHECK_FALSE(q.claim());
        q.make_ready(late);
        for (int i = 0; i < many; ++i)
            CHECK(q.receive() == i);
        CHECK(q.blocks == 1);
    }

    TEST_CASE("they may become ready in any order") {
        queue q;
        std::vector<slot> all;
        for (int i = 0; i < many; ++i)
            all.push_back(q.append(i));
        SUBCASE("backwards") {
            for (int i = many - 1; i >= 0; --i) {
                CHECK_FALSE(q.claim());
                q.make_ready(all[static_cast<std::size_t>(i)]);
            }
        }
        SUBCASE("every other first") {
            for (int i = 1; i < many; i += 2)
                q.make_ready(all[static_cast<std::size_t>(i)]);
            CHECK_FALSE(q.claim());
            for (int i = 0; i < many; i += 2)
                q.make_ready(all[static_cast<std::size_t>(i)]);
        }
        for (int i = 0; i < many; ++i)
            CHECK(q.receive() == i);
        CHECK(q.blocks == 1);
    }

    TEST_CASE("claims may end in any order, and each block goes with its last one") {
        queue q;
        std::vector<slot> all;
        for (int i = 0; i < many; ++i)
            q.send(i);
        for (int i = 0; i < many; ++i)
            all.push_back(q.claim());
        CHECK(q.blocks == 6);
        SUBCASE("backwards") {
            for (int i = many - 1; i >= 0; --i)
                q.finish(all[static_cast<std::size_t>(i)]);
        }
        SUBCASE("each block's first one at last") {
            for (int i = 0; i < many; ++i)
                if (static_cast<unsigned>(i) % slots != 0)
                    q.finish(all[static_cast<std::size_t>(i)]);
            CHECK(q.blocks == 6);
            for (int i = 0; i < many; i += static_cast<int>(slots))
                q.finish(all[static_cast<std::size_t>(i)]);
        }
        CHECK(q.blocks == 1);
        q.send(7);
        CHECK(q.receive() == 7);
    }

    TEST_CASE("what is given back comes again in its old place, also from blocks before") {
        queue q;
        for (int i = 0; i < many; ++i)
            q.send(i);
        std::vector<slot> all;
        for (int i = 0; i < many; ++i)
            all.push_back(q.claim());
        CHECK_FALSE(q.claim());
        std::vector<int> back;
        for (int i = many - 1; i >= 0; --i) {
            if (i % 3 == 0) {
                q.give_back(all[static_cast<std::size_t>(i)]);
                back.insert(back.begin(), i);
            } else {
                q.finish(all[static_cast<std::size_t>(i)]);
            }
        }
        q.send(many);
        back.push_back(many);
        for (const int i : back)
            CHECK(q.receive() == i);
        CHECK_FALSE(q.claim());
        CHECK(q.blocks == 1);
    }

    TEST_CASE("places in which no value was made are passed over") {
        queue q;
        const auto abandon = [&q](slot s) {
            q.finish(s);
            q.make_ready(s);
        };
        SUBCASE("one in front") {
            const slot s = q.append(0);
            q.send(1);
            abandon(s);
            CHECK(q.receive() == 1);
        }
        SUBCASE("whole blocks, behind one that is late") {
            const slot late = q.append(0);
            for (int i = 0; i < many; ++i)
                abandon(q.append(0));
            CHECK_FALSE(q.claim());
            q.make_ready(late);
            CHECK(q.receive() == 0);
            for (int i = 0; i < many; ++i)
                q.send(i);
            for (int i = 0; i < many; ++i)
                CHECK(q.receive() == i);
        }
        CHECK_FALSE(q.claim());
        CHECK(q.blocks == 1);
    }
}
