"""Defects of g++ 12 that compile without a word, as far as text shows them: docs/compilers.md.

Text cannot tell a trivial capture from any other, so each copied capture counts.
"""

import re

from cpp_text import Source

ON_PURPOSE = "lint: traps on purpose"  # in a comment anywhere in a file: it is left alone

_CONDITION = (
    "co_await in the condition of '{}', in a coroutine that declares nothing: g++ 12 does not run "
    "its body. Give the awaited value a name first: `const bool ok = co_await ...;`"
)
_CAPTURE = (
    "a lambda that captures by copy is a temporary of an expression that awaits: g++ 12 destroys its "
    "captures twice. Give it a name first: `auto f = [...] {...};`, then `co_await g(std::move(f))`"
)
_CHOICE = (
    "co_await of a temporary that ?: chooses: g++ 12 destroys it twice. Choose with if and else, or give "
    "it a name first: `auto t = c ? a() : b();`, then `co_await std::move(t)`"
)


def find(text):
    """The traps in a source, as (line, message)."""
    if ON_PURPOSE in text or not re.search(r"\bco_(await|yield)\b", text):
        return []
    source = Source(text)
    found = [(p, _CONDITION.format(word)) for p, word in _conditions(source)]
    found += [(p, _CAPTURE) for p in _captures(source)]
    found += [(p, _CHOICE) for p in _choices(source)]
    return sorted((source.line(p), message) for p, message in found)


# ---- a coroutine that declares nothing, and co_await in a condition --------------------------------------


def _conditions(source):
    for match in re.finditer(r"\b(if|while|for|switch)\s*(?=\()", source.text):
        start, end = match.end() + 1, source.partner.get(match.end())
        if end is None:
            continue
        head = source.without_lambda_bodies(start, end)
        if match[1] == "for":
            head = (head.split(";") + ["", ""])[1]
        if not re.search(r"\bco_await\b", head):
            continue
        body = _function_around(source, match.start())
        if body is not None and not _declares(source, body, source.partner[body]):
            yield match.start(), match[1]


def _function_around(source, position):
    """The `{` of the innermost function that the statement at `position` is in."""
    for brace in range(position, -1, -1):
        if source.text[brace] == "{" and source.partner.get(brace, -1) > position:
            if not _is_block(source, brace):
                return brace
    return None


def _is_block(source, brace):
    previous, at = source.before(brace)
    if previous in ("", ";", "{", "}", ":") or source.word_before(brace) in ("else", "do", "try"):
        return True
    if previous != ")" or at not in source.partner:
        return False
    word = source.word_before(source.partner[at])
    return word in ("if", "constexpr", "while", "for", "switch", "catch", "SUBCASE")


_STATEMENT = r"(?:^|[;{}:]|\b(?:if|while|for|switch)\s*\()\s*"
_KEYWORD = (
    r"(?:decltype\s*\(|(?:using|typedef|struct|class|union|enum|static|extern|const|constexpr|volatile)\b"
    r"|(?:auto|typename|unsigned|signed|bool|char|short|int|long|float|double)\b(?!\s*[({]))"
)
_NAME = (
    r"(?!(?:return|co_return|co_await|co_yield|throw|delete|new|goto|case|else|do|if|while|for|switch)\b)"
    r"[A-Za-z_]\w*"
)
_DECLARATION = re.compile(
    rf"{_STATEMENT}(?:{_KEYWORD}|(?:::)?{_NAME}(?:::\w+)*[\s&*]+{_NAME}\s*[=;(,{{:\[])"
    r"|\bcatch\s*\(\s*[\w:]+(?:\s+\w+)?[\s&*]+\w+\s*\)"
)


def _declares(source, start, end):
    """Whether anything is declared between: a type, an alias, a variable; a lambda's class, too."""
    if any(start < introducer < end for introducer in source.lambdas):
        return True
    text = source.text[start + 1 : end]
    while (shorter := re.sub(r"(?<=\w)<[^<>;{}]*>", "", text)) != text:
        text = shorter  # so that a template's arguments do not stand between its name and the variable
    return _DECLARATION.search(text) is not None


# ---- a temporary lambda with captures in an expression that awaits ---------------------------------------


def _captures(source):
    for introducer, body in source.lambdas.items():
        captures = source.text[introducer + 1 : source.partner[introducer]]
        if not any(_is_copied(capture.strip()) for capture in _split(captures)):
            continue
        end = _expression_end(source, source.partner[body] + 1)
        start = _expression_start(source, introducer)
        if re.search(r"\bco_(await|yield)\b", source.without_lambda_bodies(start, end)):
            yield introducer


def _split(captures):
    """At the commas that stand outside all brackets."""
    depth, items = 0, [""]
    for char in captures:
        depth += (char in "([{<") - (char in ")]}>")
        if char == "," and depth == 0:
            items.append("")
        else:
            items[-1] += char
    return items


def _is_copied(capture):
    return capture not in ("", "&", "this") and not re.match(r"(\.\.\.\s*)?&", capture)


def _expression_start(source, position):
    after = source.text[position]  # what stands behind the character looked at
    while position > 0:
        position -= 1
        char = source.text[position]
        if char.isspace():
            continue
        if char == ";" or (char == "}" and after not in ",).(;+-/|&<>=?:]"):
            return position + 1
        if char == ")" and _is_head(source, source.partner.get(position)):
            return position + 1
        if char in ")]}":
            position = source.partner.get(position, 0)
        elif _is_head(source, position):
            return position + 1
        elif char == "{" and not _is_initialiser(source, position):
            return position + 1
        after = source.text[position]
    return 0


def _expression_end(source, position):
    while position < len(source.text):
        char = source.text[position]
        if char in ";}" or (char == ")" and _is_head(source, source.partner.get(position))):
            return position
        if char in "([{":
            position = source.partner.get(position, len(source.text))
        position += 1
    return position


def _is_head(source, opening):
    """Whether `opening` is the `(` of a condition, which is an expression of its own."""
    if opening is None or source.text[opening] != "(":
        return False
    return source.word_before(opening) in ("if", "constexpr", "while", "for", "switch")


def _is_initialiser(source, brace):
    previous, _ = source.before(brace)
    if previous in tuple("=,({"):
        return True
    head = source.text[max(0, brace - 300) : brace]
    if re.search(r"[)\]]\s*(\w+\s*)*->[\w:<>,&*\s]+$", head):
        return False  # a function's trailing return type
    words = ("else", "do", "try", "const", "noexcept", "mutable", "override", "final")
    return bool(re.match(r"[\w>]", previous)) and source.word_before(brace) not in words


# ---- a temporary that ?: chooses, awaited at once ---------------------------------------------------------


def _choices(source):
    for match in re.finditer(r"\bco_await\s*(?=\()", source.text):
        end = source.partner.get(match.end())
        if end is None:
            continue
        # What stands in inner brackets belongs to a call; an arm that ends with one is a temporary.
        operand, position = "", match.end() + 1
        while position < end:
            char = source.text[position]
            if char in "([{" and position in source.partner:
                operand += char + source.text[source.partner[position]]
                position = source.partner[position] + 1
            else:
                operand += char
                position += 1
        _, chooses, arms = operand.partition("?")
        if chooses and any(re.search(r"[)}]\s*$", arm) for arm in re.split(r"(?<!:):(?!:)", arms)):
            yield match.start()
