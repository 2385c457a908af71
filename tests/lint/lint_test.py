#!/usr/bin/env python3
"""The tests of the checks in this folder."""

import pathlib
import tempfile
import unittest

import ids
import traps
import tree


class ConditionWithoutDeclaration(unittest.TestCase):
    def assert_found(self, body, *lines):
        text = "task<int> f(int& n) {\n" + body + "\n}\n"
        self.assertEqual([line - 1 for line, _ in traps.find(text)], list(lines), text)

    def test_each_kind_of_condition(self):
        self.assert_found("if (!co_await x()) co_return 1;\nco_return 0;", 1)
        self.assert_found("if (n && co_await x()) co_return 1;", 1)
        self.assert_found("++n;\nwhile (co_await x()) { ++n; }", 2)
        self.assert_found("do { ++n; }\nwhile (co_await x());", 2)
        self.assert_found("switch (co_await x()) { case 1: co_return 1; default: break; }", 1)
        self.assert_found("for (; co_await x();) ++n;", 1)
        self.assert_found("if (bool(co_await x())) co_return 1;", 1)
        self.assert_found("if (static_cast<bool>(co_await x())) co_return 1;", 1)

    def test_inside_of_other_statements(self):
        self.assert_found("while (true) {\n if (n > 0) {\n if (co_await x()) co_return 1;\n }\n}", 3)
        self.assert_found("for (;;) [[likely]] {\n if (co_await x()) break;\n}", 2)
        self.assert_found("try {\n if (co_await x()) co_return 1;\n} catch (...) {\n}", 2)
        self.assert_found("n = 1;\nn *= 2, n = n < 2;\nif (co_await x()) co_return a(n);", 3)
        self.assert_found("static_assert(true);\nif (co_await x()) goto end;\nend: co_return 1;", 2)

    def test_a_lambda_is_a_body_of_its_own(self):
        self.assert_found("int k = 0;\nspawn([](int m) -> task<> {\n if (co_await x(m)) ++m;\n});", 3)
        self.assert_found("int k = 0;\nspawn([](int) mutable {\n if (co_await x()) ++n;\n});", 3)
        text = 'TEST_CASE("a") {\n int k = 0;\n run([]() -> task<> {\n if (co_await x()) ++n;\n }());\n}'
        self.assertEqual([line for line, _ in traps.find(text)], [4])

    def test_any_declaration_makes_it_safe(self):
        condition = "\nif (co_await x()) co_return 1;"
        for declaration in (
            "int k = 0;", "auto k = 1;", "const auto& k = n;", "task<> k;", "std::vector<int> k{1, 2};",
            "a::b<c, d<e>>::f k(1);", "using any = int;", "using std::move;", "struct s {};", "static int k;",
            "foo* k = 0;", "foo &k = n;", "auto [a, b] = n;", "for (int i = 0; i < 1; ++i) ++n;",
            "for (auto& i : n) ++n;", "{ int k = 1; }", "if (n) { foo k; }", "if (int k = n) ++n;",
            "try { ++n; } catch (const error& e) { }", "unsigned long k = 1;", "decltype(n) k = n;",
            "g([] { return 1; });", "std::lock_guard lock(m);", "enum { one };",
        ):  # fmt: skip
            self.assert_found(declaration + condition)
            self.assert_found(condition.replace("co_return 1;", "{ " + declaration + " }"))

    def test_safe_without_a_declaration(self):
        self.assert_found("if (n) co_await x();")
        self.assert_found("for (n += co_await x(); n < 3; n += co_await x()) ++n;")
        self.assert_found("co_return co_await x() ? 0 : 1;")
        self.assert_found("if (bool ok = co_await x(); !ok) co_return 1;")
        self.assert_found("if (const auto ok = co_await x()) co_return 1;")
        self.assert_found("// if (co_await x())\nco_await y(\"if (co_await x())\");")


class TemporaryLambdaWithCaptures(unittest.TestCase):
    def assert_found(self, statement, count=1):
        text = "task<> f(int n, T t) {\n int k = 0;\n " + statement + "\n}\n"
        found = [line for line, _ in traps.find(text)]
        self.assertEqual(found, [3] * count, text)

    def test_found(self):
        for capture in ("t", "=", "*this", "t = move(t)", "&, t", "&n, t", "ts...", "...ts = us", "=, &n"):
            self.assert_found("co_await g([" + capture + "] { return 1; });")
        for statement in (
            "auto r = co_await spawn_blocking([t] { return t.size(); });",
            "co_return co_await g(1, [t]() mutable noexcept -> int { return 1; });",
            "co_await [t] { return x(t); }();",
            "co_await [t](int m) -> task<> { co_await x(m); }(1);",
            "use([t] { return 1; }, co_await x());",
            "n = use(co_await x(), std::function<int()>([t] { return 1; }));",
            "co_await g(options{1, [t] { return 1; }});",
            "co_await g({.f = [t] { return 1; }});",
            "(co_await x()).then([t] { });",
            "if (co_await g([t] { return 1; })) ++n;",
            "CHECK(co_await g([t] { return 1; }) == 1);",
            "co_await g(T{1}, [t] { return 1; });",
            "co_await g([] { return 1; }, [t] { return 1; });",
            "co_yield g([t] { return 1; });",
        ):
            self.assert_found(statement)
        self.assert_found("co_await g([t] { return 1; }, [n] { return 1; });", 2)

    def test_safe(self):
        for statement in (
            "co_await g([] { return 1; });",
            "co_await g([&] { return 1; });",
            "co_await g([&n, &t] { return 1; });",
            "co_await g([this] { return 1; });",
            "co_await g([&u = t] { return 1; });",
            "auto f = [t] { return 1; }; co_await g(std::move(f));",
            "auto h = spawn([t] { return 1; }); co_await std::move(h);",
            "spawn([t]() -> task<> { co_await x(t); }); co_await y();",
            "if (co_await x()) g([t] { return 1; });",
            "for (; co_await x();) { g([t] { return 1; }); }",
            "if (n) { co_await x(); } g([t] { return 1; });",
            "while (co_await x()) g([t] { return 1; });",
            "co_await g(a[t], b[n](1));",
            "auto [a, b] = co_await g(t);",
            "for (auto& [a, b] : map) { co_await g(a); }",
            "co_await g(new int[k]{1});",
            "rt.block_on([](T t) -> task<> { auto f = [t] { return 1; }; co_await g(f); }(t));",
            "// co_await g([t] {})",
        ):
            self.assert_found(statement, 0)

    def test_a_lambda_in_a_namespace_or_class(self):
        self.assertEqual(traps.find("task<> f() { co_await x(); }\nauto f = [t = 1] { return t; };"), [])
        self.assertEqual(
            traps.find("struct s { int n; F f = [n = 1] { return n; };\n task<> g() { co_await x(); } };"), []
        )


class AwaitedChoice(unittest.TestCase):
    def assert_found(self, statement, count=1):
        text = "task<> f(int n, T t) {\n int k = 0;\n " + statement + "\n}\n"
        self.assertEqual([line for line, _ in traps.find(text)], [3] * count, text)

    def test_found(self):
        for statement in (
            "co_await (n ? a() : b());",
            "const int m = co_await (n > 1 ? x::a(t) : x::b(t)) + 1;",
            "co_await (n ? std::move(one) : two(1));",
            "co_return co_await(n ? task<>() : task<>{});",
        ):
            self.assert_found(statement)

    def test_safe(self):
        for statement in (
            "auto c = n ? a() : b(); co_await std::move(c);",
            "co_await (n ? one : two);",
            "co_await a(n ? 1 : 2);",
            "co_await (a(n ? 1 : 2));",
            "co_await a() ? 1 : 2;",
            "if (n) co_await a(); else co_await b();",
        ):
            self.assert_found(statement, 0)


class Literals(unittest.TestCase):
    def test_do_not_confuse(self):
        text = """
        #define TRY(x) if (co_await x) {
        task<> f() {
            g('"', 1'000'000, R"x(")} if (co_await)x", "\\"{");  /* { */
            if (co_await x()) co_return;
        }
        """
        self.assertEqual([line for line, _ in traps.find(text)], [5])

    def test_a_file_can_do_it_on_purpose(self):
        trap = "task<> f() { if (co_await x()) co_return; }"
        self.assertEqual(len(traps.find(trap)), 1)
        self.assertEqual(traps.find(f"// {traps.ON_PURPOSE}\n{trap}"), [])


class Tree(unittest.TestCase):
    """Each rule once: a tree that breaks it, and what is said of that tree."""

    def findings(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            return [(str(name), line) for name, line, _ in tree.check(root)]

    def test_synchronisation_goes_through_the_seam(self):
        for name in ("atomic<int>", "atomic_ref<int>", "mutex", "shared_mutex", "condition_variable_any"):
            text = f"// std::mutex\nstd::{name} x;\n"
            self.assertEqual(self.findings({"core/src/a.cpp": text}), [("core/src/a.cpp", 2)])
            self.assertEqual(self.findings({"core/src/futex.cpp": text, "tests/core/a.cpp": text}), [])
        text = "std::memory_order_acquire x;\nstd::lock_guard y(z);\n"
        self.assertEqual(self.findings({"core/src/a.cpp": text}), [])

    def test_no_fence(self):
        text = "int x = (std::atomic_thread_fence(y), 1);\n"
        self.assertEqual(self.findings({"tests/core/a.cpp": text}), [("tests/core/a.cpp", 1)])
        self.assertEqual(self.findings({tree.PEERS + "a.cpp": text}), [])

    def test_asio_is_included_in_io_only(self):
        text = "#include <boost/asio/ip/tcp.hpp>\n"
        self.assertEqual(self.findings({"sync/src/a.cpp": text}), [("sync/src/a.cpp", 1)])
        self.assertEqual(self.findings({"io/src/a.cpp": text}), [])

    def test_one_file_includes_spdlog(self):
        text = "#include <spdlog/spdlog.h>\n"
        self.assertEqual(self.findings({"scheduler/src/a.cpp": text}), [])
        self.assertEqual(self.findings({"core/src/a.cpp": text}), [("core/src/a.cpp", 1)])
        both = {"scheduler/src/a.cpp": text, "scheduler/src/b.cpp": text}
        self.assertEqual(len(self.findings(both)), 2)

    def test_public_headers_are_listed(self):
        header, lists = "sync/include/magpie/sync/event.hpp", "sync/CMakeLists.txt"
        self.assertEqual(self.findings({header: "", lists: f"{header[5:]}\n"}), [])
        self.assertEqual(self.findings({header: "", lists: f"{header[6:]}\n"}), [(header, 1)])
        self.assertEqual(self.findings({header: "", lists: f"# {header[5:]}\n"}), [(header, 1)])

    def test_test_files_are_listed_and_have_their_suite(self):
        name, suite = "tests/core/task_test.cpp", 'TEST_SUITE("core.task") {}\n'
        lists = {"tests/CMakeLists.txt": "magpie_test(core NAMES\n    task\n)\n"}
        self.assertEqual(self.findings({name: suite, **lists}), [])
        self.assertEqual(self.findings({name: suite}), [(name, 1)])
        self.assertEqual(self.findings({name: "int x;\n", **lists}), [(name, 1)])

    def test_format(self):
        self.assertEqual(self.findings({"core/src/a.cpp": "int x;\n\nint   y;\n"}), [("core/src/a.cpp", 3)])

    def test_what_tasks_share_comes_before_their_runtime(self):
        def found(*lines):
            text = "void f() {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"
            return [line - 1 for _, line in self.findings({"tests/core/a.cpp": text})]

        runtime = "const runtime rt = builder.build();"
        for shared in (
            "std::atomic<int> n{0};", "std::atomic<bool> a{false}, b{false};", "std::latch all(8);", "std::mutex m;",
            "event go;", "magpie::sync::event go;", "std::deque<permits> many(8);", "std::vector<std::atomic<int>> n(3);",
        ):  # fmt: skip
            self.assertEqual(found(runtime, shared), [2])
            self.assertEqual(found(shared, runtime), [])
        for runtime in (
            "auto rt = with_workers(2);", "shared_executor ex(8);", "std::optional<runtime> rt(builder.build());",
            "auto rt = std::make_unique<runtime>(multi_thread(a ? 1 : 2).build());",
        ):  # fmt: skip
            self.assertEqual(found(runtime, "event go;"), [2])
        self.assertEqual(found(runtime, "f([] { event go; });"), [])  # of its own
        self.assertEqual(found("{", "  " + runtime, "}", "event go;"), [])
        self.assertEqual(found(runtime, "event &go = in(rt);", "int n = 0;"), [])

    def test_nothing_names_a_place_elsewhere(self):
        for place in ("/ho" "me/me/x", "see /ro" "ot", "https://deb.deb" "ian.org", "crates" ".io"):
            self.assertEqual(self.findings({"docs/a.md": "\n" + place}), [("docs/a.md", 2)])
        self.assertEqual(self.findings({"docs/a.md": "a/work/b, /homely, build/root/x"}), [])


class Ids(unittest.TestCase):
    NAMES = {"core/task_test.cpp": ["TASK-CORE-01, TASK-CORE-02: a task runs", "another"]}

    def problems(self, *table, required=()):
        text = "# Tests\n\n" + ids.TABLE_HEAD + "".join(table) + "\nEnd\n"
        return list(ids.problems(text, self.NAMES, required))

    def test_an_id_needs_a_test_or_a_reason(self):
        self.assertEqual(self.problems(required=["TASK-CORE-01", "TASK-CORE-02"]), [])
        self.assertEqual(len(self.problems(required=["TASK-CORE-03"])), 1)
        self.assertEqual(self.problems("| X-03 | | later: with io |\n", required=["X-03"]), [])
        self.assertEqual(self.problems("| X-03 | core/task_test.cpp: another | |\n", required=["X-03"]), [])

    def test_a_row_has_to_be_true(self):
        self.assertEqual(len(self.problems("| X-03 | core/task_test.cpp: a third | |\n")), 1)
        self.assertEqual(len(self.problems("| X-03 | core/no_test.cpp: another | |\n")), 1)
        self.assertEqual(len(self.problems("| X-03 | | hard |\n")), 1)
        self.assertEqual(len(self.problems("| X-03 | | |\n")), 1)

    def test_write_renews_rows_and_keeps_reasons(self):
        table = "| TASK-CORE-01 | gone_test.cpp: x | |\n| CPP-20 | | later: with io |\n| X-01 | gone: y | |\n"
        text = ids.written("Head\n" + ids.TABLE_HEAD + table + "\nEnd\n", self.NAMES)
        test = "core/task_test.cpp: TASK-CORE-01, TASK-CORE-02: a task runs"
        new = f"| TASK-CORE-01 | {test} |  |\n| TASK-CORE-02 | {test} |  |\n| CPP-20 |  | later: with io |\n"
        self.assertEqual(text, "Head\n" + ids.TABLE_HEAD + new + "\nEnd\n")
        self.assertEqual(list(ids.problems(text, self.NAMES, ["TASK-CORE-01", "CPP-20"])), [])

    def test_names(self):
        files = {
            "core/a_test.cpp": 'TEST_CASE("A-01: a "\n  "\\"b\\"") {}\nTEST_CASE_TEMPLATE("A-02", T, int) {}\n',
            "core/b_test.cpp": 'TEST_CASE_FIXTURE(f, "A-03") {}\nSUBCASE("A-04") {}\nTEST_SUITE("A-05") {}\n',
            "CMakeLists.txt": "add_test(NAME A-06.x COMMAND y)\n",
            "compile_fail/c.cpp": "// A-07: text\n// A-08\n",
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            names = ids.test_names(pathlib.Path(folder))
        self.assertEqual(sorted(ids.covered(names)), ["A-01", "A-02", "A-03", "A-06", "A-07"])


if __name__ == "__main__":
    unittest.main()
