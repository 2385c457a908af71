#pragma once

#include "command.hpp"
#include "table.hpp"

#include <magpie/magpie.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kv {

/// What one connection's pipeline asks of a shard, and what that has answered. Keys and values are in what
/// the connection has sent, and stay there until it is answered.
class batch {
public:
    void add(command::verb what, const hashed_key& key, std::string_view value) {
        jobs_.push_back({what, key, value});
    }

    /// Done on the shard that has the keys.
    void run_in(table& where) {
        for (const job& j : jobs_) {
            if (j.what == command::verb::del)
                answers_ += where.erase(j.key) ? '1' : '0';
            else if (answers_.size() <= longest_answer)
                command::answer(j.what, where, j.key, j.value, answers_);
            ends_.push_back(answers_.size());
        }
    }

    /// The answers come out one after another. For DEL that is "1" or "0"; nothing if there was no room.
    std::string_view next_answer() noexcept {
        const std::size_t begin = next_ == 0 ? 0 : ends_[next_ - 1];
        return std::string_view(answers_).substr(begin, ends_[next_++] - begin);
    }

    bool is_empty() const noexcept { return jobs_.empty(); }

    /// For the next pipeline, in the same memory.
    void clear() noexcept {
        jobs_.clear();
        answers_.clear();
        ends_.clear();
        next_ = 0;
    }

private:
    struct job {
        command::verb what;
        hashed_key key;
        std::string_view value;
    };

    std::vector<job> jobs_;
    std::string answers_;
    std::vector<std::size_t> ends_; // of each answer
    std::size_t next_ = 0;
};

/// The keys of a service under `thread_per_core`: each shard owns a part of them, and nobody else touches
/// it. So there is no lock; what concerns another shard's keys is sent there, once a pipeline.
class owned_store {
public:
    explicit owned_store(std::size_t shards) : shards_(shards) {}

    std::size_t size() const noexcept { return shards_.size(); }
    std::size_t owner_of(
        const hashed_key& key) const noexcept { // by the upper half: tables have the lower
        return (key.hash >> (4 * sizeof key.hash)) % shards_.size();
    }
    /// Only to be touched on that shard.
    table& table_of(std::size_t s) noexcept { return shards_[s].entries; }

private:
    struct alignas(64) shard {
        table entries;
    };

    std::vector<shard> shards_;
};

/// The requests of one connection, answered out of an owned store. @see serve
///
/// While a pipeline asks for keys of the own shard alone, it is answered at once. From the first other
/// key on all is planned, and put together when the other shards have answered: answers keep their
/// order, and so do the requests for one key. A request with several keys sees each as it is at its moment.
class owned_requests {
public:
    /// @param here  the calling shard
    owned_requests(std::shared_ptr<owned_store> store, std::size_t here)
        : store_(std::move(store)), here_(here), batches_(store_->size()) {}

    bool add(std::span<const std::string_view> arguments, std::string& out) {
        const std::size_t begin = out.size();
        command c(arguments, out);
        if (steps_.empty() && is_all_mine(c)) {
            while (!c.done())
                c.apply(store_->table_of(here_), hashed_key(c.key()), out);
            return true;
        }
        steps_.push_back({step::begin, 0, 0});
        if (out.size() > begin) { // what stands before the answers of its keys, or in place of them
            steps_.push_back({step::text, 0, out.size() - begin});
            texts_.append(out, begin);
            out.resize(begin);
        }
        const bool counts = c.what() == command::verb::del;
        for (; !c.done(); c.skip()) {
            const hashed_key key(c.key());
            const std::size_t owner = store_->owner_of(key);
            batches_[owner].add(c.what(), key, c.value());
            steps_.push_back({counts ? step::count : step::answer, owner, 0});
        }
        if (counts)
            steps_.push_back({step::total, 0, 0});
        return true;
    }

    bool is_pending() const noexcept { return !steps_.empty(); }

    /// Has the shards do their parts, all at a time, and adds the answers. Dropped, it waits for them.
    magpie::task<> finish(std::string& out) {
        std::vector<magpie::task<>> parts;
        for (std::size_t s = 0; s < batches_.size(); ++s)
            if (s != here_ && !batches_[s].is_empty())
                parts.push_back(run_on(s, batches_[s], *store_));
        batches_[here_].run_in(store_->table_of(here_));
        if (parts.size() == 1) // mostly, where there are two shards
            co_await std::move(parts.front());
        else
            co_await magpie::join(std::move(parts));
        put_together(out);
        for (batch& b : batches_)
            b.clear();
        steps_.clear();
        texts_.clear();
    }

private:
    struct step {
        enum kind : unsigned char {
            begin,  // of a request
            text,   // the next `size` bytes of texts_
            answer, // the shard's next answer
            count,  // the same, and it is a number to be added up
            total,  // which comes here
        };
        kind what;
        std::size_t shard, size;
    };

    static magpie::task<> run_on(std::size_t shard, batch& work, owned_store& store) {
        auto run = [&work, &store, shard] { work.run_in(store.table_of(shard)); };
        co_await magpie::submit_to(shard, std::move(run));
    }

    bool is_all_mine(const command& c) const noexcept {
        for (command rest = c; !rest.done(); rest.skip())
            if (store_->owner_of(hashed_key(rest.key())) != here_)
                return false;
        return true;
    }

    void put_together(std::string& out) {
        std::size_t begin = 0, text = 0;
        std::int64_t sum = 0;
        bool too_long = false, refused = false;
        for (const step& s : steps_) {
            std::string_view piece;
            switch (s.what) {
            case step::begin:
                begin = out.size();
                sum = 0;
                too_long = refused = false;
                break;
            case step::text:
                piece = std::string_view(texts_).substr(text, s.size);
                text += s.size;
                break;
            case step::answer:
                piece = batches_[s.shard].next_answer();
                too_long = too_long || piece.empty();
                break;
            case step::count: sum += batches_[s.shard].next_answer() == "1" ? 1 : 0; break;
            case step::total: add_integer(out, sum); break;
            }
            if (!too_long && piece.size() <= longest_answer - (out.size() - begin)) {
                out += piece;
            } else if (!std::exchange(refused, true)) {
                out.resize(begin);
                command::add_too_long(out);
            }
        }
    }

    std::shared_ptr<owned_store> store_;
    std::size_t here_;
    std::vector<batch> batches_; // for each shard; used again and again
    std::vector<step> steps_;    // how the answers are put together
    std::string texts_;
};

} // namespace kv
