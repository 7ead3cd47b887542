"""Text whose type says that it can be shown as it is, in the manner of MarkupSafe.

What users and stores say comes as `str`. Whatever builds a page escapes it, unless it is of the page's own type:
`Markdown` or `Tex`, which `md` and `tex` make from templates that stand in this package. So nobody can forget to
escape, and what is escaped twice is seen.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Self

BETWEEN = " × "
"""Joins the two factors of an interaction, and their levels, where a person reads them."""

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {"×": r"$\times$", "–": "--"} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def plain(text: object) -> str:
    """Text from outside on one line, without control characters; '' for what is missing."""
    if text is None or text != text:
        return ""
    text = str(text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def enumerated(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def crossed(names: Sequence[str]) -> str:
    """One factor or level as it is, the two of an interaction as `a × b`."""
    return BETWEEN.join(names)


class _Text(str):
    """Text of a language, which says how it is `_escaped`.

    What `format` and `join` put into it is escaped, unless it is of that language.
    """

    @classmethod
    def of(cls, value: object) -> Self:
        """The value to be read as it is: on one line, without control characters, escaped."""
        return value if isinstance(value, cls) else cls(cls._escaped(plain(value)))

    def format(self, *values: Any, **named: Any) -> Self:
        named = {name: self.of(value) for name, value in named.items()}
        return type(self)(super().format(*map(self.of, values), **named))

    def join(self, parts: Iterable[object]) -> Self:
        return type(self)(super().join(map(self.of, parts)))


class Markdown(_Text):
    """Markdown that is trusted."""

    @staticmethod
    def _escaped(text: str) -> str:
        """No markup, no HTML, no cell borders."""
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return re.sub(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)


def unmarked(text: Markdown) -> str:
    """What a sentence in Markdown says on a terminal: without its marks, and what was escaped as it is."""
    text = re.sub(r"\\([\\`*\[\]|~$_])|\*\*|`", lambda found: found[1] or "", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class Tex(_Text):
    """LaTeX that is trusted."""

    @staticmethod
    def _escaped(text: str) -> str:
        return "".join(_TEX.get(each, each) for each in text)


def md(template: str, *values: object, **named: object) -> Markdown:
    """The template, which is trusted, with values in its braces, which are not unless they are `Markdown`."""
    return Markdown(template).format(*values, **named)


def tex(template: str, *values: object) -> Tex:
    """As `md`, for LaTeX."""
    return Tex(template).format(*values)


def listed(items: Iterable[object]) -> Markdown:
    """A list of points."""
    return md("\n").join(md("- {}", item) for item in items)


def code(*lines: str) -> Markdown:
    """A code block that its content cannot close."""
    text = "\n".join(map(plain, lines))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}sh\n{text}\n{fence}")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], numeric: int = 0) -> Markdown:
    """A table; the last `numeric` columns are aligned right."""
    rule = ["---"] * (len(head) - numeric) + ["---:"] * numeric
    return md("\n").join(md("| {} |", md(" | ").join(line)) for line in (head, rule, *rows))
