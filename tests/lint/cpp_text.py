"""C++ source as text: what can be known of it without a compiler."""

import bisect
import re

_BLANK = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?:\b(?:u8|[uUL]))?R"(?P<mark>[^()\s\\]*)\(.*?\)(?P=mark)"
      | "(?:\\.|[^"\\\n])*"
      | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'          # but not the ' in 1'000
    """,
    re.DOTALL | re.VERBOSE,
)
_DIRECTIVE = re.compile(r"^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_ATTRIBUTE = re.compile(r"\[\[[^\[\]]*\]\]")
_CLOSING = {")": "(", "]": "[", "}": "{"}
_OPERATORS = {"return", "co_return", "co_await", "co_yield", "throw", "else", "do", "case"}


def _spaces(match):
    return re.sub(r"[^\n]", " ", match.group())


def without_comments(text):
    return _BLANK.sub(lambda m: _spaces(m) if m["comment"] else m.group(), text)


class Source:
    """A file's text without comments, literals, directives and attributes (all blanked out)."""

    def __init__(self, text):
        blank = _BLANK.sub(lambda m: _spaces(m) if m["comment"] else f'"{_spaces(m)[2:]}"', text)
        self.text = _ATTRIBUTE.sub(_spaces, _DIRECTIVE.sub(_spaces, blank))
        self.partner = self._match_brackets()
        self.lambdas = self._find_lambdas()
        self._opening = [p for p in self.partner if self.text[p] in "([{"]
        self._lines = [m.end() for m in re.finditer("\n", text)]

    def line(self, position):
        return bisect.bisect_right(self._lines, position) + 1

    def before(self, position):
        """The last character before `position` that is no space, and where it is."""
        stripped = self.text[:position].rstrip()
        return stripped[-1:], len(stripped) - 1

    def word_before(self, position):
        return re.search(r"\w*$", self.text[max(0, position - 200) : position].rstrip()).group()

    # ---- blocks and statements ---------------------------------------------------------------------------

    def opening(self, position):
        """The bracket that was opened last before `position` and is still open there, or -1."""
        return max((p for p in self._opening if p < position < self.partner[p]), default=-1)

    def end_of_block(self, position):
        return self.partner.get(self.opening(position), len(self.text))

    def end_of_statement(self, position):
        """The `;` that ends what stands at `position`, those in brackets aside."""
        while position < len(self.text) and self.text[position] not in ";)]}":
            position = self.partner.get(position, position) + 1
        return position

    def _match_brackets(self):
        partner, open_brackets = {}, []
        for match in re.finditer(r"[()\[\]{}]", self.text):
            bracket, position = match.group(), match.start()
            if bracket not in _CLOSING:
                open_brackets.append(position)
            elif open_brackets and self.text[open_brackets[-1]] == _CLOSING[bracket]:
                partner[position] = open_brackets.pop()
                partner[partner[position]] = position
        return partner

    # ---- lambdas: {position of the introducer's `[`: position of the body's `{`} ------------------------

    def _find_lambdas(self):
        found = {}
        for match in re.finditer(r"\[", self.text):
            body = self._lambda_body(match.start())
            if body is not None:
                found[match.start()] = body
        return found

    def _lambda_body(self, introducer):
        previous, _ = self.before(introducer)
        if introducer not in self.partner:
            return None
        if re.match(r"[\w)\]]", previous) and self.word_before(introducer) not in _OPERATORS:
            return None  # a subscript or a structured binding
        at = self.partner[introducer] + 1
        while at < len(self.text):
            char = self.text[at]
            if char == "{":
                return at if at in self.partner else None
            if char in "([":
                at = self.partner.get(at, len(self.text))
            elif char in ")]};=":
                return None
            at += 1
        return None

    def without_lambda_bodies(self, start, end):
        text = self.text[start:end]
        for body in self.lambdas.values():
            stop = self.partner[body]
            if start <= body and stop < end:
                text = text[: body + 1 - start] + " " * (stop - body - 1) + text[stop - start :]
        return text
