#pragma once

#include "command.hpp"
#include "table.hpp"

#include <magpie/magpie.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kv {

/// What one connection's pipeline asks of another shard, and what that has answered. It has its own copy
/// of keys and values: whoever sent it may be dropped before it is done.
class batch {
public:
    void add(command::verb what, const hashed_key& key, std::string_view value) {
        const std::size_t at = bytes_.size();
        bytes_ += key.text;
        bytes_ += value;
        jobs_.push_back({what, key.hash, at, key.text.size(), value.size()});
    }

    /// Done on the shard that has the keys.
    void run_in(table& where) {
        for (const job& j : jobs_) {
            const std::string_view all = bytes_;
            const hashed_key key(all.substr(j.at, j.key_size), j.hash);
            if (j.what == command::verb::del)
                answers_ += where.erase(key) ? '1' : '0';
            else if (answers_.size() <= longest_answer)
                command::answer(j.what, where, key, all.substr(j.at + j.key_size, j.value_size),
                                answers_);
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
        bytes_.clear();
        answers_.clear();
        ends_.clear();
        next_ = 0;
    }

private:
    struct job {
        command::verb what;
        std::size_t hash, at, key_size, value_size;
    };

    std::vector<job> jobs_;
    std::string bytes_, answers_;
    std::vector<std::size_t> ends_; // of each answer
    std::size_t next_ = 0;
};

/// The keys of a service under `thread_per_core`: each shard owns a part of them, and nobody else touches
/// it. So there is no lock; what concerns another shard's keys is sent there, once a pipeline.
class owned_store {
public:
    using answered = magpie::sync::oneshot::receiver<batch>;

    explicit owned_store(std::size_t shards) : shards_(shards) {}

    std::size_t size() const noexcept { return shards_.size(); }
    std::size_t owner_of(
        const hashed_key& key) const noexcept { // by the upper half: tables have the lower
        return (key.hash >> (4 * sizeof key.hash)) % shards_.size();
    }
    /// Only to be touched on that shard.
    table& table_of(std::size_t s) noexcept { return shards_[s].entries; }

    /// Does what other shards send to the calling one: to be run on each, until the runtime ends.
    static magpie::task<> keep(std::shared_ptr<owned_store> store, std::size_t shard_index) {
        shard& own = store->shards_[shard_index];
        for (;;) {
            std::optional<message> next = co_await own.inbox.rx.recv();
            if (!next)
                co_return;
            next->work.run_in(own.entries);
            static_cast<void>(next->reply.send(std::move(next->work))); // who has asked may be gone
        }
    }

    /// Has a batch run on another shard.
    answered send(std::size_t to, batch work) {
        auto ends = magpie::sync::oneshot::channel<batch>();
        static_cast<void>(shards_[to].inbox.tx.send(message(std::move(work), std::move(ends.tx))));
        return std::move(ends.rx);
    }

private:
    struct message {
        message(batch b, magpie::sync::oneshot::sender<batch> r)
            : work(std::move(b)), reply(std::move(r)) {}

        batch work;
        magpie::sync::oneshot::sender<batch> reply;
    };
    struct alignas(64) shard {
        table entries;
        decltype(magpie::sync::mpsc::unbounded_channel<message>()) inbox =
            magpie::sync::mpsc::unbounded_channel<message>();
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

    /// Has the other shards do their parts, all at a time, and adds the answers.
    magpie::task<> finish(std::string& out) {
        std::vector<std::optional<owned_store::answered>> waiting(batches_.size());
        for (std::size_t s = 0; s < batches_.size(); ++s)
            if (s != here_ && !batches_[s].is_empty())
                waiting[s] = store_->send(s, std::move(batches_[s]));
        batches_[here_].run_in(store_->table_of(here_));
        for (std::size_t s = 0; s < batches_.size(); ++s)
            if (waiting[s]) {
                std::optional<batch> done = co_await waiting[s]->recv();
                if (!done)
                    throw std::runtime_error("a shard has ended");
                batches_[s] = std::move(*done);
            }
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
