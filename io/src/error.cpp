#include <magpie/io/error.hpp>

#include <string>

namespace magpie::io {

namespace {

class category final : public boost::system::error_category {
public:
    const char* name() const noexcept override { return "magpie.io"; }
    std::string message(int code) const override {
        switch (static_cast<io_error>(code)) {
        case io_error::unexpected_end: return "the stream ended before everything was read";
        }
        return "unknown error";
    }
};

} // namespace

const boost::system::error_category& io_category() noexcept {
    static const category the;
    return the;
}

} // namespace magpie::io
