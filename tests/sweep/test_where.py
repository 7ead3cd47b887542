"""Filters over combinations: what they mean, and that nothing but comparisons gets through."""

import warnings

import pytest

from ablations.errors import InputError
from ablations.sweep.where import DEEPEST, condition

LEVELS = {
    "head": {"softmax", "rbf"},
    "optimizer": {"adam", "sgd"},
    "trainer.batch_size": {"1", "8", "32"},
    "optimizer.lr": {"0.001", "1e-2"},
    "trainer.clip_norm": {"null", "5.0"},
    "trainer.replacement": {"true", "false"},
}
SETTING = {
    "head": "rbf",
    "optimizer": "sgd",
    "trainer.batch_size": "8",
    "optimizer.lr": "1e-2",
    "trainer.clip_norm": "null",
    "trainer.replacement": "true",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("head == 'rbf'", True),
        ("head != 'rbf'", False),
        ("'rbf' == head", True),
        ("not (head == 'rbf' and optimizer == 'sgd')", False),
        ("not (head == 'rbf' and optimizer == 'adam')", True),
        ("head == 'softmax' or optimizer == 'sgd'", True),
        ("trainer.batch_size > 8", False),
        ("trainer.batch_size >= 8", True),
        ("trainer.batch_size < 10", True),  # 8, and not '8' after '10'
        ("1 < trainer.batch_size <= 8", True),
        ("trainer.batch_size == 8.0", True),
        ("trainer.batch_size == '8'", True),
        ("trainer.batch_size in [1, 8]", True),
        ("trainer.batch_size not in (1, 8)", False),
        ("optimizer.lr == 0.01", True),
        ("optimizer.lr < 0.002", False),
        ("-1 < optimizer.lr", True),
        ("trainer.clip_norm == None", True),
        ("trainer.clip_norm == 'null'", True),
        ("trainer.clip_norm < 10", False),  # there is none
        ("trainer.replacement == True", True),
        ("head == optimizer", False),
        ("head in ['rbf', 'mse',]", True),
        (" head == 'rbf'\n", True),
    ],
)
def test_what_an_expression_says_of_a_combination(text, expected):
    assert condition(text, LEVELS)(SETTING) is expected


HOSTILE = [
    ("head.__class__ == 'x'", "head.__class__ is no factor"),
    ("__import__ == 'os'", "__import__ is no factor"),
    ("__import__('os').system('touch x') == 0", r"__import__\('os'\).system\('touch x'\): not accepted"),
    ("head.upper() == 'RBF'", r"head.upper\(\): not accepted"),
    ("print(head) == None", r"print\(head\): not accepted"),
    ("9**9**9 == 1", r"9\*\*9\*\*9: not accepted"),
    ("trainer.batch_size * 2 > 8", r"trainer.batch_size \* 2: not accepted"),
    ("(lambda: 1)() == 1", r"\(lambda: 1\)\(\): not accepted"),
    ("lambda: head == 'rbf'", "lambda: head == 'rbf': not accepted"),
    ("[x for x in head] == 1", r"\[x for x in head\]: not accepted"),
    ("head in [x for x in 'ab']", "after `in` a list of texts or numbers is expected"),
    ("head in 'rbf'", "after `in` a list of texts or numbers is expected"),
    ("head in [optimizer]", "after `in` a list of texts or numbers is expected"),
    ("{'a': head} == 1", r"\{'a': head\}: not accepted"),
    ("head['x'] == 1", r"head\['x'\]: not accepted"),
    ("f'{head}' == 'rbf'", r"f'\{head\}': not accepted"),
    ("(x := head) == 'rbf'", "x := head: not accepted"),
    ("head == b'rbf'", "b'rbf': not accepted"),
    ("head == 1j", "1j: not accepted"),
    ("head == ...", r"\.\.\.: not accepted"),
    ("head is 'rbf'", "`is` is not accepted; == is"),
    ("pool == 'max'", "pool is no factor; there are: head, optimizer, trainer.batch_size"),
    ("head == rbf", r"rbf is no factor; there are: .* \(texts stand in quotes\)"),
    ("trainer.epochs > 3", "trainer.epochs is no factor"),
    ("head", "head: a comparison is expected, as in head == 'x'"),
    ("head == 'rbf' and optimizer", "optimizer: a comparison is expected"),
    ("True", "True: not accepted"),
    ("head if head == 'rbf' else head == 1", "head if head == 'rbf' else head == 1: not accepted"),
    ("head < 3", "head=rbf is no number; accepted: ==, in"),
    ("trainer.batch_size < 'many'", "'many' is no number"),
    ("head = 'rbf'", "head = 'rbf': .*; accepted: factors"),
    ("head ==", "head ==: .*; accepted: factors"),
    ("head == 'rbf'; import os", "head == 'rbf'; import os: .*; accepted: factors"),
    ("import os", "import os: .*; accepted: factors"),
    ("head == 'a\x00b'", ".*; accepted: factors"),
    ("(" * 150 + "head == 'rbf'" + ")" * 150 + "(", ".*; accepted: factors"),
    ("not " * 400 + "head == 'rbf'", ".*: nested too deeply; accepted: factors"),
    ("-" * 1000 + "1 == 1", ".*: nested too deeply; accepted: factors"),
    ("head == 'rbf' or " * 200 + "head == 'rbf'", "3413 characters; accepted are at most 2000"),
    ("head == " + "9" * 1900, None),
    ("", "an expression over factors is expected; got ''"),
    ("  ", "an expression over factors is expected"),
    (True, "an expression over factors is expected; got 'True'"),
    (3, "an expression over factors is expected; got '3'"),
    (["head"], "an expression over factors is expected"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_anything_else_is_one_clear_line_and_never_done(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(action="error"):
        if message is None:  # a number that no factor has
            assert condition(text, LEVELS)(SETTING) is False
        else:
            with pytest.raises(InputError, match=rf"^study.where: (.*: )?{message}") as raised:
                condition(text, LEVELS)
            assert "\n" not in str(raised.value)
            assert len(str(raised.value)) < 500
    assert not list(tmp_path.iterdir())


def test_what_is_nested_as_deeply_as_people_nest_is_read():
    text = "head == 'rbf'"
    for _ in range(DEEPEST // 2 - 3):
        text = f"not ({text})"
    assert condition(text, LEVELS)(SETTING) is ((DEEPEST // 2 - 3) % 2 == 0)
