"""A report as one HTML page: whole, well formed, and safe whatever names are in it."""

import base64
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_report import compiled

from ablations.report import Request, compile_report
from ablations.report.again import compile_again
from ablations.report.escaping import Markdown, listed, md, table
from ablations.report.page import fragment, page
from ablations.tracking.study import Study

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>|[x](javascript:alert(3))![y](http://z/y.png)"
ELEMENTS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "img",
        "div",
        "table",
    ),
    *("thead", "tbody", "tr", "th", "td", "strong", "em", "code", "pre", "a", "details", "summary"),
    *("blockquote", "ol", "hr", "br", "h4", "h5", "h6"),  # of Markdown that the report does not write
}
ATTRIBUTES = {
    "id",
    "class",
    "alt",
    "src",
    "href",
    "download",
    "charset",
    "http-equiv",
    "content",
    "name",
    "lang",
}


class Elements(HTMLParser):
    """What a browser finds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def require_harmless(text: str) -> None:
    for tag, attributes in Elements(text).found:
        assert tag in ELEMENTS
        assert set(attributes) <= ATTRIBUTES
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert re.match(r"#|data:(text/(csv|plain)|application/json);base64,", attributes.get("href", "#"))


@pytest.fixture
def home(store, tmp_path) -> Path:
    study = Study(
        HOSTILE, ("activation",), {"activation": "relu"}, "test/error_pct", 0.1, design="grid", tuned_on=""
    )
    store.keep(study)
    for seed in range(6):
        for activation, error in (("relu", 5.0), (HOSTILE, 4.0 - seed / 8)):
            store.add(error, seed=seed, activation=activation, predictions=True, sweep=HOSTILE)
    return compile_report(HOSTILE, folder=tmp_path / "reports", html=True).path.parent


def test_the_page_is_whole_well_formed_and_runs_nothing(home):
    text = (home / "report.html").read_text(encoding="utf-8")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    ET.fromstring(text.partition("\n")[2])  # each element is closed, each attribute quoted
    require_harmless(text)
    assert "default-src 'none'" in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    drawn = sorted((home / "figures").glob("*.png"))
    assert sorted(map(base64.b64decode, pictures)) == sorted(path.read_bytes() for path in drawn)
    tables = dict(re.findall(r'<a download="([^"]+)" href="data:[^,]+,([^"]+)">', text))
    assert set(tables) == {"runs.csv", "effects.csv", "verdicts.tex"}
    assert base64.b64decode(tables["runs.csv"]) == (home / "runs.csv").read_bytes()
    anchors = {attributes.get("id") for _, attributes in Elements(text).found}
    assert set(re.findall(r'href="#([^"]+)"', text)) <= anchors


def test_the_words_are_those_of_the_readme(home):
    text = (home / "report.html").read_text(encoding="utf-8")
    found = " ".join(ET.fromstring(text.partition("\n")[2]).find("body").itertext())
    readme = (home / "README.md").read_text(encoding="utf-8")
    numbers = re.compile(r"\d+\.\d+")
    assert numbers.findall(found) == numbers.findall(re.sub(r"\]\(.*?\)", "", readme))
    assert found.count("alert(1)") == readme.count("alert(1)")


def test_the_policy_names_the_style_by_its_hash(home):
    import hashlib

    text = (home / "report.html").read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in text
    assert "style=" not in text


def test_a_page_that_is_there_follows_the_report(home, store):
    before = (home / "report.html").read_text(encoding="utf-8")
    compile_again(home)
    assert (home / "report.html").read_text(encoding="utf-8") == before
    store.add(4.0, seed=7, activation="relu", sweep=HOSTILE)
    compile_report(HOSTILE, folder=home.parent)  # without html
    after = (home / "report.html").read_text(encoding="utf-8")
    assert after != before
    assert after == page(home, HOSTILE)


@pytest.mark.usefixtures("without_figures")
def test_without_being_asked_there_is_no_page(store, tmp_path):
    store.add()
    assert not (compiled(tmp_path)[0].path.parent / "report.html").exists()
    report = compile_report(folder=tmp_path / "reports", request=Request(), html=True)
    assert (report.path.parent / "report.html").exists()


@given(st.text())
@settings(max_examples=200)
@example("<details><summary>x</summary>")
@example("</details>")
@example("    code")
@example("&lt;script&gt;")
def test_nothing_from_outside_becomes_an_element(text):
    parts = md("\n\n").join(
        [md("# {}", text), listed([text]), table(("a", text), [(text, "b")]), md("{}", text)]
    )
    require_harmless(fragment(parts, lambda _: None))


@given(st.text("<>/!-abdeilmrstuy \n=\"'?[]()#.", max_size=80))
@settings(max_examples=300)
@example("<details><summary><b></summary>")
@example("<!-- x -->\n<b>")
@example("<img src=x>")
@example("a <b>c</b> <http://x.y> [a](http://x.y)")
def test_not_even_html_in_the_markdown_itself_does(text):
    require_harmless(fragment(Markdown(text), lambda _: None))
