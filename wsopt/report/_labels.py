"""What things are called in tables and figures."""

from __future__ import annotations

_IN_OWN_FEATURES = {"fid": ("inception", "FID", "FD"), "kid": ("inception", "KID", "KD"), "fcd": ("clip", "FCD", "FD")}
_WRITTEN = {
    "inception-score": "IS",
    "precision": "precision",
    "recall": "recall",
    "pickscore": "PickScore",
    "clip-score": "CLIP score",
    "image-reward": "ImageReward",
    "win-rate": "win rate",
}
_OPTIMIZERS = {"lcsc": "LCSC", "cmaes": "CMA-ES", "nevergrad": "nevergrad", "random": "random search"}


def metric_label(metric: str, features: str | None) -> str:
    """What a metric may be called, given the features it was computed in.

    The names FID and KID are kept for Inception features, FCD for CLIP's; in other features the same formula is a
    Frechet or kernel distance, and the features are named: ``FD(digits)``.

    Args:
        metric: registered name of the objective, ``fid``.
        features: registered name of the extractor, None where there is none or it is not known.
    """
    if metric in _IN_OWN_FEATURES:
        own, name, plain = _IN_OWN_FEATURES[metric]
        if features is None:
            return plain
        return name if features == own or features.startswith(f"{own}-") else f"{plain}({features})"
    name = _WRITTEN.get(metric, metric)
    return name if features is None else f"{name}({features})"


def optimizer_label(optimizer: str | None) -> str:
    """How an optimizer is written: ``LCSC`` for ``lcsc``."""
    return "search" if optimizer is None else _OPTIMIZERS.get(optimizer, optimizer)


def kind_of(name: str) -> str:
    """The kind of a score's name: ``ema-0.998`` is an ``ema``, ``last`` is a ``last``."""
    for kind in ("train-ema", "ema", "power", "single", "run"):
        if name.startswith(f"{kind}-"):
            return kind
    return name


def row_label(
    name: str,
    optimizer: str | None = None,
    ema_star: str | None = None,
    step: int | None = None,
    baseline: str | None = None,
) -> str:
    """How a row of the table is called.

    Args:
        name: name of the score, as in results.json.
        optimizer: registered name of the run's optimizer.
        ema_star: which baseline is EMA*.
        step: training step of the best single checkpoint.
        baseline: the baseline that is the winner `name`, where the search found nothing better.
    """
    kind = kind_of(name)
    rest = name[len(kind) + 1 :]
    match kind:
        case "last":
            return "last checkpoint"
        case "best-single":
            return "best single checkpoint" + (f" (step {step:,})" if step is not None else "")
        case "single":
            return f"checkpoint of step {int(rest):,}" if rest.isdecimal() else f"checkpoint of step {rest}"
        case "uniform":
            return "uniform average"
        case "power":
            return f"power EMA {rest}"
        case "ema":
            return f"EMA {rest} over the window"
        case "train-ema":
            return f"EMA {rest} from training"
        case "run":
            return f"winner of {rest}"
        case "ema*":
            which = {"ema": "window", "train-ema": "training"}.get(kind_of(ema_star or ""))
            return f"EMA* ({which} {(ema_star or '').rpartition('-')[2]})" if which else "EMA*"
        case "best" | "validated" if baseline is not None:
            return f"{name} ({row_label(baseline)}, nothing better found)"
        case "best" | "recommended" | "validated":
            return f"{optimizer_label(optimizer)} ({name})"
        case "floor":
            return "real images (floor)"
    return name


def amount(count: int | float) -> str:
    """Bytes for people: ``512 MiB``."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Seconds for people: ``3.7 ms``, ``0.17 s``, ``2 min 5 s``, ``3 h 12 min``."""
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"
