"""What a report says of how long its runs were trained."""

from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd

from ablations.report.lengths import how_long
from ablations.tracking.study import Study

SEEDS = 8


def said(schedule: str | Sequence[str] | None = None, **gains: list[float] | float) -> str:
    """Of variants of these late gains, each by its seeds or the same ± a little for all of them."""
    rows = []
    for variant, gain in enumerate(gains.values()):
        of = gain if isinstance(gain, list) else [gain + 1e-4 * (seed % 2) for seed in range(SEEDS)]
        rows += [
            {
                "variant": variant,
                "finished": True,
                "late_gain": each,
                "params.trainer.schedule": schedule[variant] if isinstance(schedule, list) else str(schedule),
                "validated_epochs": 10.0,
                "best_epoch": 9.5,
            }
            for each in of
        ]
    variants = pd.DataFrame({"params.activation": list(gains)})
    study = Study("s", ("activation",), {}, "test/error_pct", 0.1, design="grid", tuned_on="val/accuracy")
    analysis = SimpleNamespace(study=study, runs=pd.DataFrame(rows), variants=variants)
    return "\n".join(map(str, how_long(analysis)))


def test_all_level():
    page = said(relu=0.0002, tanh=-0.0003)
    assert "| relu | level | 10 | 9.5 | +0.0003 | \\[+0.0002, +0.0003\\] |" in page
    assert "All variants had levelled off" in page
    assert "Not trained to its end" not in page


def test_what_goes_on_and_what_is_past_its_best_is_named():
    page = said(relu=0.0, sigmoid=0.004, tanh=-0.004)
    assert "| sigmoid | still improving |" in page
    assert "| tanh | getting worse |" in page
    assert "**Not trained to its end**: activation=sigmoid." in page
    assert "**Past its best**: activation=tanh." in page
    assert "levelled off" not in page


def test_noise_and_few_seeds_are_not_clear():
    page = said(relu=[0.01, -0.01] * 4, tanh=[0.004] * 5)
    assert "| relu | not clear |" in page
    assert "| tanh | not clear | 10 | 9.5 | +0.0040 | no limits |" in page


def test_nothing_without_validation():
    assert said(relu=[float("nan")] * SEEDS) == ""


def test_what_is_not_clear_is_explained():
    assert "*not clear*: neither, or too few seeds or epochs to tell." in said(relu=[0.01, -0.01] * 4)


def test_a_rate_that_goes_to_nothing_ends_every_curve_level():
    page = said(schedule="cosine", relu=0.0002, tanh=-0.0003)
    assert "The learning rate of all variants went down to nearly 0 (trainer.schedule)" in page
    assert "| relu | level, its rate at 0 | 10 |" in page
    assert "levelled off" not in page


def test_the_fewer_are_named_of_those_with_a_schedule_and_those_without():
    page = said(schedule=["cosine", "cosine", "None"], relu=0.0002, tanh=0.0002, sigmoid=0.0002)
    assert "The learning rate of all variants but activation=sigmoid went down" in page
    page = said(schedule=["cosine", "None", "None"], relu=0.0002, tanh=0.0002, sigmoid=0.0002)
    assert "The learning rate of activation=relu went down" in page
