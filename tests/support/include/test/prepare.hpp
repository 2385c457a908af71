#pragma once

namespace doctest {
class Context;
}

namespace test {

/// Called by main before the tests run, if there is one.
extern void (*prepare)(doctest::Context& context);

} // namespace test
