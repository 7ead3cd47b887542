"""Escaping by type: what is not of a page's own type is escaped when it is put in, and a page takes nothing else."""

import ast
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ablations.report
from ablations.comparison.variants import with_times
from ablations.report.analysis import analyse
from ablations.report.drawings import drawings
from ablations.report.escaping import Markdown, Tex, code, listed, md, plain, table, tex, unmarked
from ablations.report.request import UNSAID
from ablations.report.sections import after_figures, before_figures
from ablations.tracking.study import Study


def test_what_is_put_in_is_escaped_once():
    assert md("**{}** {}", "a*b", md("*{}*", "<c>")) == r"**a\*b** *&lt;c&gt;*"
    assert md("{what}", what="a_ | [b]") == r"a\_ \| \[b\]"
    assert md(", ").join(["`a`", md("`b`")]) == r"\`a\`, `b`"
    assert Markdown.of("two\nlines\x1b ") == "two lines"
    assert Markdown.of(None) == ""
    assert tex(r"\textbf{{{}}}", "50 % of a_b × c") == r"\textbf{50 \% of a\_b $\times$ c}"
    assert tex("{}", md("a_b")) == r"a\_b"  # of another language: text like any other


@given(st.text())
def test_nothing_breaks_out_of_a_table_or_a_list(text):
    page = md("\n").join([table(("a", text), [(text, "b")]), listed([text])])
    assert isinstance(page, Markdown)
    assert len(page.split("\n")) == 4
    assert "<" not in page
    assert page.replace(r"\|", "").count("|") == 9


@given(st.text())
@example("a\\")
@example("\\**`")
@example("&amp;lt;")
def test_a_terminal_shows_what_was_put_in(text):
    """Whatever it is: the marks of the template go, and those of what was put in stay."""
    assert unmarked(md("**{}** and `{}`", text, text)) == f"{plain(text)} and {plain(text)}"


def test_a_block_of_code_is_not_closed_by_what_is_in_it():
    assert code("a ``` b\nc") == "````sh\na ``` b c\n````"


@pytest.mark.parametrize(
    "made", [md("{}", 1), md("").join([]), tex("{}", 1), listed(["a"]), table("a", []), code("a")]
)
def test_what_is_made_keeps_its_type(made):
    assert isinstance(made, Markdown | Tex)


def test_an_f_string_is_text_from_outside_again():
    assert md("{}", f"{md('**a**')}") == r"\*\*a\*\*"


def test_all_pieces_of_a_page_are_of_its_type(store):
    hostile = "<b>*|_x_"
    claim = {
        "text": hostile,
        "source": hostile,
        "factor": "activation",
        "variant": "tanh",
        "baseline": hostile,
    }
    entry = {"system": hostile, "figures": {"test/accuracy": 0.5}, "why": hostile}
    study = Study(
        hostile,
        ("activation",),
        {"activation": hostile},
        "test/error_pct",
        0.1,
        question=hostile,
        claims=(claim,),
        published={"e": entry},
        sections={hostile: hostile},
        command=hostile,
        **UNSAID,
    )
    for seed in range(3):
        store.add(5.0, seed=seed, activation=hostile, experiment="e", predictions=True)
        store.add(4.0, seed=seed, activation="tanh", experiment="e", predictions=True)
    store.add(None, seed=9, status="FAILED", activation="tanh", tags={"failure": hostile})
    histories = store.histories([row["run_id"] for row in store.rows])
    analysis = analyse(study, with_times(store.runs(), histories), [hostile], strict=False)
    figures = list(drawings(store, analysis, histories))
    assert len(figures) > 4
    forest = [md("{}", each.heading) for each in figures[:1]]
    pieces = [*before_figures(analysis, forest), *after_figures(analysis, [hostile])]
    pieces += [text for each in figures for text in (each.heading, each.caption)]
    for piece in pieces:
        assert isinstance(piece, Markdown), piece
        assert "<b>" not in piece or piece.startswith("```"), piece


def test_templates_are_literals():
    """What is trusted stands in the package: no text from outside gets into a template."""
    for path in Path(ablations.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("md", "tex")
            ):
                inside = [type(part) for part in ast.walk(node.args[0])]
                assert ast.JoinedStr not in inside, f"{path.name}:{node.lineno}"
                assert ast.BinOp not in inside, f"{path.name}:{node.lineno}"


def test_plain_text_has_one_line_and_no_control_characters():
    assert plain(" a\tb\x07\n c ") == "a b c"
    assert plain(float("nan")) == ""
