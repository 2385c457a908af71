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
        case io_error::runtime_gone: return "the runtime of this I/O object is shut down";
        }
        return "unknown error";
    }
    boost::system::error_condition default_error_condition(int code) const noexcept override {
        if (static_cast<io_error>(code) == io_error::runtime_gone)
            return errc::make_error_condition(errc::operation_canceled);
        return {code, *this};
    }
};

} // namespace

const boost::system::error_category& io_category() noexcept {
    static const category the;
    return the;
}

} // namespace magpie::io
