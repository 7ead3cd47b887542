"""Which values of a metric are better, where its name leaves no doubt; everywhere else somebody has to say it."""

import re

from ablations.errors import InputError
from ablations.tracking.secondary import PARTS, SECONDARY


def listed(words: str) -> frozenset[str]:
    """Words parted by blanks."""
    return frozenset(words.split())


OURS = {"epochs_to_target": True, "time/images_per_s": False}
OURS |= {name: each.smaller for name, each in SECONDARY.items()}
"""Names of our own that no list of words reads: whether smaller is better."""

# Words that stand for a measure of their own, whatever is measured: `sentiment_f1`, `toxicity_auc`.
LARGER = listed(
    """
    accuracy acc f1 f1score fscore auc auroc rocauc auprc aucpr r2 iou miou dice bleu sacrebleu chrf
    rouge rouge1 rouge2 rougel meteor psnr ssim mrr ndcg mcc kappa throughput elbo
    """
)
SMALLER = listed(
    """
    mse rmse mae mape smape wape msle rmsle nll perplexity ppl bpc wer cer ter fid kid brier ece logloss
    crossentropy bce
    """
)
# Words of everyday language, which mean it only beside words that change nothing: `test_loss`, but not `weight_loss`.
LARGER_PLAIN = listed("precision recall specificity reward")
SMALLER_PLAIN = listed(
    """
    loss losses error errors err latency runtime duration time seconds misclassified
    """
)

NEUTRAL = listed(
    """
    train training val valid validation test testing dev eval evaluation holdout heldout cv fold outer
    inner mean avg average median macro micro weighted balanced binary multiclass overall total global
    best final last end epoch step batch sample image token word char character sentence pixel example
    item instance per p50 p90 p95 p99 episode max top pct percent percentage ms s sec us ns min minutes
    hours h at k n num number metric metrics ema running smoothed score rate model student cpu gpu wall
    clock elapsed process inference prediction predict forward backward fit ce nce softmax sigmoid cross
    log hinge squared absolute root abs sq l1 l2 smooth huber focal triplet contrastive mlm lm nlp nsp
    cls classification reg regression box bbox obj dfl seg mask reconstruction recon kl vae
    generalization normalized symmetric pearson roc pr pre b m
    """
)
"""Words beside which the others keep their meaning."""

DOUBTFUL = listed(
    """
    neg negative minus inverse inverted inv reciprocal anti non not no without free one improvement
    improved gain gained increase increased decrease decreased reduction reduced reducing drop dropped
    change changed delta diff difference gap ratio relative vs versus over saved saving savings avoided
    lost recovered forgotten forgetting degradation decline complement opposite target goal required
    threshold limit limited under budget baseline chance random std sd var variance stdev stderr ci sem
    spread range slope scale weight coef coefficient factor penalty bonus attack attacker adversary
    adversarial inference_attack membership mia leakage leak leaked privacy shadow forget unlearn
    unlearned unlearning discriminator disc fool fooled fooling bias unfairness to until since between regret lift
    uplift up down count counter rank ranking position index id
    """
)
"""Words that may turn the others round, or make something else of them."""

# A rate of errors is one, and so is a number of them; a rate of time is not.
RATED = listed("error errors err accuracy acc misclassified word character token")


def words_of(name: str) -> list[str]:
    """The words of a name in small letters, parted by marks, blanks and capitals: `valLoss_top1`: val, loss, top1."""
    parts = re.findall(r"mAP|mIoU|IoU|[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+|[^\W\d_a-zA-Z]+", name)
    return [part if part == "mAP" else re.sub(r"^acc\d+$", "acc", part.lower()) for part in parts]


def smaller_is_better(metric: str) -> bool | None:
    """Whether smaller values are better; None where the name does not say it beyond doubt.

    A name says it by a whole word of a short list, if no other word of the list says the opposite, none of the words
    may turn it round, and none after it makes something else of it (`loss_ratio`). Beside words of everyday language
    (`loss`, `time`) every other word must be one that changes nothing.
    """
    if metric in OURS:
        return OURS[metric]
    if PARTS.fullmatch(metric):
        return True
    words = _joined(words_of(metric))
    if not words or metric.lstrip()[:1].isdigit():  # `1-accuracy`
        return None
    own = [word for word in words if word in LARGER | SMALLER | {"mAP"}]
    plain = [word for word in words if word in LARGER_PLAIN | SMALLER_PLAIN]
    sides = {word in SMALLER | SMALLER_PLAIN for word in own + plain}
    if len(sides) != 1 or DOUBTFUL & set(words):
        return None
    found = {*own, *plain}
    last = max(i for i, word in enumerate(words) if word in found)
    after = [word for word in words[last + 1 :] if not _neutral(word)]
    others = [word for word in words if word not in found and not _neutral(word)]
    if after or (others and not own):
        return None
    timed = found & {"time", "seconds", "latency", "runtime", "duration"}
    if ("rate" in words and not found & RATED) or (
        timed == {"seconds"} and "per" in words[: words.index("seconds")]
    ):
        return None
    return sides.pop()


def _neutral(word: str) -> bool:
    return (
        word in NEUTRAL or word.isdigit() or re.fullmatch(r"(top|p|at|k|fold|layer|l)\d+", word) is not None
    )


def _joined(words: list[str]) -> list[str]:
    """Two words that make one of the list, such as `f_1`, `cross_entropy`."""
    pairs = {("f", "1"): "f1", ("f1", "score"): "f1", ("f", "score"): "fscore", ("f", "measure"): "fscore"}
    pairs |= {("r", "2"): "r2", ("run", "time"): "runtime", ("cross", "entropy"): "crossentropy"}
    pairs |= {("wall", "time"): "time", ("log", "likelihood"): "likelihood", ("m", "iou"): "iou"}
    joined: list[str] = []
    for word in words:
        if joined and (joined[-1], word) in pairs:
            joined[-1] = pairs[joined[-1], word]
        else:
            joined.append(word)
    return joined


def direction(metric: str, said: bool | None, how: str) -> bool:
    """Whether smaller values are better, as was said, else as the name tells.

    Raises:
        InputError: neither does; `how` says where it can be said.
    """
    small = smaller_is_better(metric) if said is None else said
    if small is None:
        raise InputError(
            f"{metric}: its name does not tell whether smaller or larger values are better: say it with {how}"
        )
    return small
