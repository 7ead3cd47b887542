"""What else the two sides of a comparison differ in: by hand, on tables of runs."""

import pandas as pd
import pytest

from ablations.comparison.confounds import Rules, only_names
from ablations.comparison.pairs import Comparison, comparisons
from ablations.comparison.verdicts import Verdict, tabulate

SEEDS = range(8)


def runs_of(*levels: str, factor: str = "arch", more=None, seeds=SEEDS) -> pd.DataFrame:
    """A run for each level and seed, a level 1/64 better than the one before; `more(level, seed)` has other columns."""
    rows = [
        {
            "run_id": f"{level}{seed}",
            "run_name": "",
            "status": "FINISHED",
            "start_time": seed,
            f"params.{factor}": level,
            "params.seed": str(seed),
            "params.epochs": "5",
            "metrics.acc": 0.5 + at / 64 + seed / 1024,
            **(more(level, seed) if more else {}),
        }
        for at, level in enumerate(levels)
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def compared(runs: pd.DataFrame, factor: str = "arch", baseline: str = "a", rules: Rules = Rules(brings={})):  # noqa: B008
    return comparisons(runs, [factor], {factor: baseline}, "acc", rules=rules)


def confounds_of(comparison: Comparison) -> list[tuple]:
    found = comparison.differing.confounds
    return [(each.key, each.variant, each.baseline, len(each.seeds)) for each in found]


def verdict_of(*found: Comparison) -> list[str]:
    return list(tabulate(found, 0, False)["verdict"])


def test_equal_runs_are_not_confounded():
    (only,) = compared(runs_of("a", "b"))
    assert only.differing.confounds == only.differing.unknown == only.differing.noted == ()
    assert only.differing.unrecorded == ("code", "versions", "data")
    assert verdict_of(only) == [Verdict.BETTER]


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "key"),
    [
        ("params.batch_size", "64", "32", "batch_size"),
        ("params.use_ema", "False", "True", "use_ema"),
        ("params.data_seed", "1", "2", "data_seed"),
        ("params.optimizer_name", "sgd", "adam", "optimizer_name"),
        ("params.optimizer.name", "sgd", "adam", "optimizer.name"),
        ("params.model_id", "gpt2", "gpt2-xl", "model_id"),
        ("params.model_name_or_path", "bert-large", "bert-base", "model_name_or_path"),
        ("params.drop_path", "0.2", "0.1", "drop_path"),
        ("params.rank", "8", "4", "rank"),
        ("params.partition", "dirichlet", "iid", "partition"),
        ("tags.mlflow.source.git.commit", "1e5", "100000", "mlflow.source.git.commit"),
        ("tags.mlflow.source.name", "/home/b/new.py", "/home/b/train.py", "mlflow.source.name"),
        ("tags.mlflow.docker.image.id", "1", "2", "mlflow.docker.image.id"),
        ("tags.versions", "torch 2.4", "torch 2.3", "versions"),
        ("tags.dataset_version", "v2", "v1", "dataset_version"),
        ("inputs.train", "d1", "d2", "data set (train)"),
        ("inputs.data", "d1", "d2", "data set (data)"),
    ],
)
def test_whatever_is_known_and_differs_confounds(name, ours, theirs, key):
    (only,) = compared(runs_of("a", "b", more=lambda level, _: {name: ours if level == "b" else theirs}))
    assert confounds_of(only) == [(key, (ours.split("/")[-1],), (theirs.split("/")[-1],), 8)]
    assert only.beyond_seeds
    table = tabulate([only], 0, False)
    assert list(table["verdict"]) == [Verdict.CONFOUNDED]
    assert table["seeds_needed"].isna().all()


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "noted"),
    [
        ("params.output_dir", "runs/b", "runs/a", "output_dir"),
        ("params.logger.save_path", "b", "a", "logger.save_path"),
        ("params.checkpoint", "/data/b.pt", "/data/a.pt", "checkpoint"),
        ("params.run_name", "b", "a", "run_name"),
        ("params.args.run_name", "b", "a", "args.run_name"),
        ("params.cfg/timestamp", "2", "1", "cfg/timestamp"),
        ("params.logfile", "b.txt", "a.txt", "logfile"),
        ("params.git_branch", "topic", "main", "git_branch"),
        ("params.data_path", "new.csv", "old.csv", "data_path"),
        ("params.model_name_or_path", "/ckpt/b", "/ckpt/a", "model_name_or_path"),
        ("params.logger.name", "b", "a", "logger.name"),
        ("params.hostname", "one", "two", "hostname"),
        ("params.startTime", "10:00", "11:00", "startTime"),
        ("tags.note", "fine", "well", "note"),
        ("tags.slurm_job_id", "1", "2", "slurm_job_id"),
    ],
)
def test_names_places_and_times_are_noted(name, ours, theirs, noted):
    (only,) = compared(runs_of("a", "b", more=lambda level, _: {name: ours if level == "b" else theirs}))
    assert only.differing.noted == (noted,)
    assert verdict_of(only) == [Verdict.BETTER]


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("params.lr", "0.10", "0.1"),
        ("params.lr", "1e-1", ".1"),
        ("params.width", "64", "64.0"),
        ("tags.width", "64", "64.0"),
        ("tags.mlflow.user", "ann", "bob"),
        ("tags.mlflow.runName", "ann", "bob"),
        ("tags.mlflow.source.name", "/a/train.py", "/b/train.py"),
        ("tags.mlflow.source.git.branch", "main", "topic"),
        ("tags.mlflow.parentRunId", "1", "2"),
    ],
)
def test_what_is_equal_or_a_name_of_mlflow_is_not_mentioned(name, ours, theirs):
    (only,) = compared(runs_of("a", "b", more=lambda level, _: {name: ours if level == "b" else theirs}))
    assert only.differing.confounds == only.differing.noted == ()


def test_one_seed_and_one_arm_of_three_are_enough():
    def more(level, seed):
        return {"params.dropout": "0.5" if (level, seed) == ("c", 3) else "0.1"}

    first, second = compared(runs_of("a", "b", "c", more=more))
    assert confounds_of(first) == []
    assert confounds_of(second) == [("dropout", ("0.5",), ("0.1",), 1)]
    assert second.differing.confounds[0].seeds == ("3",)
    assert verdict_of(first, second) == [Verdict.BETTER, Verdict.CONFOUNDED]


def test_what_changes_for_both_sides_confounds_nothing():
    """Seeds added later, with another commit."""

    def more(_, seed):
        return {"tags.mlflow.source.git.commit": "old" if seed < 4 else "new"}

    (only,) = compared(runs_of("a", "b", more=more))
    assert only.differing.confounds == ()
    assert only.differing.unrecorded == ("versions", "data")


def test_what_one_side_did_not_log_is_unknown():
    (only,) = compared(
        runs_of("a", "b", more=lambda level, _: {"params.warmup": "5"} if level == "b" else {})
    )
    assert only.differing.unknown == ("warmup",)
    assert verdict_of(only) == [Verdict.BETTER]


def test_what_is_ignored_is_noted():
    runs = runs_of(
        "a", "b", more=lambda level, _: {"params.team.x": level, "params.team.y": level, "tags.t": level}
    )
    (only,) = compared(runs, rules=Rules({}, ("team.*", "tags.t")))
    assert only.differing.confounds == ()
    assert only.differing.noted == ("t", "team.x", "team.y")


@pytest.mark.parametrize(
    ("factor", "key"),
    [
        ("optimizer", "optimizer.lr"),
        ("optimizer", "optimizer/beta"),
        ("model", "model__depth"),
        ("optimizer.name", "optimizer.lr"),
        ("model._target_", "model.depth"),
        ("arch", "n_params"),
        ("arch", "network.parameters"),
    ],
)
def test_what_a_level_is_made_of_is_varied_with_it(factor, key):
    runs = runs_of("a", "b", factor=factor, more=lambda level, _: {f"params.{key}": str(ord(level))})
    (only,) = compared(runs, factor)
    assert only.differing.confounds == ()
    assert [each.key for each in only.differing.varied_with] == [key]


def test_the_number_of_training_images_confounds_where_it_is_not_compared():
    runs = runs_of("a", "b", more=lambda level, _: {"params.dataset.train_images": str(100 * ord(level))})
    assert confounds_of(compared(runs)[0]) == [("dataset.train_images", ("9800",), ("9700",), 8)]


def test_sizes_of_other_data_are_no_pairs():
    """Our digest is of all images: of how many are trained on it knows nothing."""
    runs = runs_of(
        *("100", "200"), factor="dataset.train_images", more=lambda level, _: {"tags.data_sha256": level}
    )
    (only,) = compared(runs, "dataset.train_images", "100")
    assert only.foreign


@pytest.mark.parametrize(
    ("factor", "key"), [("lr", "lr_schedule"), ("optimizer", "optimizers.lr"), ("a.lr", "a.wd")]
)
def test_what_only_looks_like_it_is_not(factor, key):
    runs = runs_of("a", "b", factor=factor, more=lambda level, _: {f"params.{key}": level})
    assert [each[0] for each in confounds_of(compared(runs, factor)[0])] == [key]


def test_what_a_study_says_that_a_level_brings():
    def more(level, _):
        return {"params.trainer.batch_size": "1" if level == "sdlm" else "32", "params.other": level}

    runs = runs_of("adam", "sdlm", "sgd", factor="optimizer", more=more)
    brings = {"optimizer": {"sdlm": ("trainer.batch_size",)}}
    first, second = compared(runs, "optimizer", "adam", Rules(brings))
    assert [each.key for each in first.differing.varied_with] == ["trainer.batch_size"]
    assert [each.key for each in first.differing.confounds] == ["other"]
    assert [each.key for each in second.differing.confounds] == ["other"]
    # a level that brings nothing may not have it
    runs.loc[runs["params.optimizer"] == "sgd", "params.trainer.batch_size"] = "64"
    _, second = compared(runs, "optimizer", "adam", Rules(brings))
    assert [each.key for each in second.differing.confounds] == ["other", "trainer.batch_size"]


def test_our_own_runs_are_told_apart_by_the_code_that_determines_the_result():
    def more(commit, code, versions):
        def of(level, _):
            at = level == "b"
            return {
                "tags.config_hash": level,
                "tags.code": commit[at],
                "tags.code_hash": code[at],
                "tags.versions": f"python 3.11, numpy {versions[at]}, mlflow 3.{at:d}",
                "tags.sweep_id": level,
                "tags.machine": level,
            }

        return of

    (only,) = compared(runs_of("a", "b", more=more(("c", "d"), "ee", "11")))
    assert only.differing.confounds == only.differing.noted == ()
    (only,) = compared(runs_of("a", "b", more=more(("c", "c"), "ef", "12")))
    assert [each.key for each in only.differing.confounds] == ["code_hash", "versions"]


def test_averages_and_interactions_are_compared_setting_by_setting():
    """b is confounded where c is 1 alone: its main effect and the interaction are, the effect of c is not."""
    rows = []
    for b in "xy":
        for c in "01":
            frame = runs_of(c, factor="c").assign(**{"params.b": b})
            rows.append(
                frame.assign(
                    **{"params.wd": "1" if (b, c) == ("y", "1") else "0", "run_id": b + frame["run_id"]}
                )
            )
    runs = pd.concat(rows)
    found = comparisons(runs, ["b", "c"], {"b": "x", "c": "0"}, "acc", rules=Rules({}))
    assert [each.factors for each in found if each.confounded] == [("b",), ("c",), ("b", "c")]
    runs["params.wd"] = runs["params.b"]
    found = comparisons(runs, ["b", "c"], {"b": "x", "c": "0"}, "acc", rules=Rules({}))
    assert [each.factors for each in found if each.confounded] == [("b",), ("b", "c")]


def test_only_names():
    assert only_names("a.output_dir", ("x", "y"))
    assert only_names("ckpt", ("s3://a/b", "/c"))
    assert not only_names("ckpt", ("s3://a/b", "c"))
    assert not only_names("model_name", ("x", "y"))
    assert only_names("model_name", ("x", "y"), ["params.model_name"])
