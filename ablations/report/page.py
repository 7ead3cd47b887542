"""A report's Markdown as one HTML page that can be mailed: figures, tables and style are inside, and nothing runs.

What comes from outside was escaped when the Markdown was made; here it is parsed as CommonMark with tables, in which
HTML counts as text, all but the two lines that fold a part of the page. A content security policy forbids scripts, and
whatever would be fetched from elsewhere.
"""

import base64
import hashlib
import html
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError
from ablations.report.escaping import Markdown, plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token

FOLD = re.compile(r"<details><summary>([^<>]*)</summary>")
END_OF_FOLD = "</details>"
TYPES = {"csv": "text/csv", "tex": "text/plain", "json": "application/json", "png": "image/png"}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .75rem; overflow-wrap: anywhere }
h1 { margin-top: 0 }
h2 { border-bottom: 1px solid #ddd; padding-bottom: .25rem }
img { max-width: 100%; height: auto }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .9rem }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: left; vertical-align: top }
th { border-bottom: 2px solid #999 }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
pre { background: #f5f5f5; padding: .75rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere }
code { font-size: .9em }
summary { cursor: pointer; font-weight: 600; margin: 1rem 0 }
@media print { body { margin: 0; max-width: none } }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
"""No script, nothing from elsewhere, and of styles the one above, by its hash."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta http-equiv="Content-Security-Policy" content="{policy}" />
<meta name="viewport" content="width=device-width" />
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
"""

Files = Callable[[str], bytes | None]
"""What a relative address of the page leads to; None where there is no such file."""


def page(home: Path, title: str) -> str:
    """The page of the report in a folder, with its figures and tables inside. Raises OSError where it is not there."""
    policy = POLICY.format(base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode())
    body = fragment(Markdown((home / "README.md").read_text(encoding="utf-8")), lambda name: _in(home, name))
    return PAGE.format(policy=policy, title=html.escape(plain(title)), style=STYLE, body=body)


def fragment(text: Markdown, files: Files) -> str:
    """A part of a page as HTML, which is well-formed XML, too. Raises InputError where markdown-it-py is missing."""
    parser = _parser()
    tokens = parser.parse(text)
    slugs: dict[str, int] = {}
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _slug(following.content, slugs))
        if token.type in ("th_open", "td_open") and "right" in str(token.attrs.pop("style", "")):
            token.attrSet("class", "number")
    return parser.renderer.render(tokens, parser.options, {"files": files})


def _in(home: Path, name: str) -> bytes | None:
    """A file of a report by its address; None for one elsewhere."""
    path = home / name
    known = re.fullmatch(r"(figures/)?[\w-]+\.(png|csv|tex|json)", name)
    return path.read_bytes() if known and path.is_file() else None


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode()}"


def _parser() -> "MarkdownIt":
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise InputError("an HTML page takes markdown-it-py: python -m pip install markdown-it-py") from None
    parser = MarkdownIt("commonmark", {"html": True, "xhtmlOut": True}).enable("table")
    parser.disable(["html_inline", "autolink"])
    rules = {
        "html_block": _folding,
        "image": _picture,
        "link_open": _link,
        "link_close": _end_of_link,
        "table_open": lambda *_: '<div class="wide"><table>\n',
        "table_close": lambda *_: "</table></div>\n",
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, lambda renderer, *given, rule=rule: rule(renderer, *given))
    return parser


def _folding(
    renderer: "RendererHTML", tokens: "Sequence[Token]", at: int, options: Any, env: Mapping[str, Any]
) -> str:
    """What begins or ends a folded part; any other HTML is text."""
    text = tokens[at].content.strip()
    if found := FOLD.fullmatch(text):
        return f"<details><summary>{html.escape(html.unescape(found[1]))}</summary>\n"
    return f"{END_OF_FOLD}\n" if text == END_OF_FOLD else f"<p>{html.escape(text)}</p>\n"


def _picture(
    renderer: "RendererHTML", tokens: "Sequence[Token]", at: int, options: Any, env: Mapping[str, Any]
) -> str:
    """A figure of the report's own, inside the page; of any other its name."""
    token = tokens[at]
    alt = html.escape(renderer.renderInlineAsText(token.children, options, env))
    content = env["files"](str(token.attrs["src"]))
    return alt if content is None else f'<img alt="{alt}" src="{data_uri(content, "png")}" />'


def _link(
    renderer: "RendererHTML", tokens: "Sequence[Token]", at: int, options: Any, env: Mapping[str, Any]
) -> str:
    """A link within the page, or to a table of the report, which is inside it; any other leads nowhere."""
    address = str(tokens[at].attrs["href"])
    if address.startswith("#"):
        return f'<a href="{html.escape(address)}">'
    name, _, kind = address.rpartition(".")
    content = env["files"](address) if kind in TYPES else None
    if content is None:
        return "<a>"
    return f'<a download="{html.escape(f"{name}.{kind}")}" href="{data_uri(content, kind)}">'


def _end_of_link(*_: Any) -> str:
    return "</a>"


def _slug(heading: str, taken: dict[str, int]) -> str:
    """The anchor of a heading, as GitHub makes it."""
    plain = "".join(c for c in heading.lower() if c.isalnum() or c in " -_").strip().replace(" ", "-")
    taken[plain] = taken.get(plain, 0) + 1
    return plain if taken[plain] == 1 else f"{plain}-{taken[plain] - 1}"
