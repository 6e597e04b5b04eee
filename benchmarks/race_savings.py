"""What racing would save, and whom it would give up wrongly, read off runs in which nothing was given up.

    wsopt run benchmarks/lcsc_cd.toml --set search.race=[100,250,500] --set search.race_margin=1e9
    python benchmarks/race_savings.py RUN [RUN ...] [--margins M ...]

Such a run has the partial scores and the full score of every candidate. So each subset of its stages and each margin
can be tried on it: a candidate counts as given up at the first stage where it is behind the rival of that time by more
than the margin, and as given up wrongly where its full score is below the bar all the same. As long as nobody is, the
race has the very search of the recorded run.

Works for optimizers whose bar depends on losses alone and that ask for as many candidates wherever those lie: lcsc,
one-plus-one without slope and random.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from wsopt.config.params import LcscParams, OnePlusOneParams, RandomParams
from wsopt.engines._race import is_behind
from wsopt.optimizers import LcscSearch, OnePlusOneSearch, Optimizer, RandomSearch, SearchSpace
from wsopt.types import Partial, Race, Result, Start


@dataclass(frozen=True)
class Contest:
    """One candidate of a recorded run.

    Args:
        own: its scores at the stages.
        rival: those of the one it had to beat; empty where there was none.
        wins: whether its full loss is below the bar.
    """

    own: tuple[Partial, ...]
    rival: tuple[Partial, ...]
    wins: bool


@dataclass(frozen=True)
class Recording:
    """A recorded run: its candidates, the samples of a full score, the number of evaluations, the direction."""

    contests: tuple[Contest, ...]
    samples: int
    evaluations: int
    sign: float
    stages: tuple[int, ...]


def read(folder: Path) -> Recording:
    """Replay the bars of a run from its journal."""
    resolved = json.loads((folder / "resolved.json").read_text())
    direction = json.loads((folder / "results.json").read_text())["objective"]["direction"]
    sign = 1.0 if direction == "minimize" else -1.0
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    if any("given_up" in event for event in events):
        raise SystemExit(f"{folder}: candidates were given up. Record the run with search.race_margin = 1e9.")
    known: dict[float, tuple[Partial, ...]] = {}
    baselines = [event for event in events if event["event"] == "baseline" and "value" in event]
    for event in baselines:
        known.setdefault(sign * event["value"], partials(event))
    patterns = resolved["search"]["starts"]
    starts = [
        Start(event["name"], np.zeros(1), sign * event["value"])
        for event in baselines
        if event["kind"] == "coefficients" and any(fnmatchcase(event["name"], pattern) for pattern in patterns)
    ]
    contests = tuple(replay(optimizer_of(resolved["optimizer"], starts), events, known, sign))
    stages = tuple(resolved["search"]["race"])
    return Recording(contests, resolved["search"]["samples"], len(contests) + len(baselines), sign, stages)


def replay(
    optimizer: Optimizer, events: Sequence[dict[str, Any]], known: dict[float, tuple[Partial, ...]], sign: float
) -> Iterator[Contest]:
    """Tell an optimizer the recorded losses; its search vectors are of no interest."""
    bar: float | None = None
    rival: tuple[Partial, ...] = ()
    for event in events:
        if event["event"] == "asked":
            optimizer.ask(len(event["ids"]))
            bar = optimizer.bar()
            rival = known[bar] if bar is not None else ()
        elif event["event"] == "told":
            loss = None if "failure" in event else sign * event["value"]
            optimizer.tell([Result(event["id"], loss)])
            if loss is not None:
                known.setdefault(loss, partials(event))
                yield Contest(partials(event), rival, bar is None or loss < bar)


def optimizer_of(settings: dict[str, Any], starts: list[Start]) -> Optimizer:
    """The optimizer of a resolved config, on a line."""
    space, draws = SearchSpace(1, np.ones(1)), np.random.default_rng(0)
    given = {key: value for key, value in settings.items() if key != "name"}
    match settings["name"]:
        case "lcsc":
            return LcscSearch(LcscParams(**given), space, starts, draws, 0)
        case "one-plus-one" if not given.get("slope"):
            return OnePlusOneSearch(OnePlusOneParams(**given), space, starts, draws, 0)
        case "random":
            return RandomSearch(RandomParams(**given), space, starts, draws, 0)
    raise SystemExit(f"optimizer {settings['name']}: its bar cannot be replayed from losses alone.")


def partials(event: dict[str, Any]) -> tuple[Partial, ...]:
    """The scores at the stages of an event."""
    return tuple(Partial(samples, value, tuple(replicates)) for samples, value, replicates in event["partials"])


def outcome(contest: Contest, race: Race) -> int | None:
    """The samples at which a candidate is given up; None where it is scored in full."""
    own = [one for one in contest.own if one.samples in race.stages]
    rivals = Race(race.stages, contest.rival, race.sign, race.margin)
    return next((one.samples for one in own if is_behind(one, rivals)), None)


def rows(recordings: Sequence[Recording], margins: Sequence[float]) -> Iterator[str]:
    """Lines of a Markdown table over all runs together."""
    yield "| stages | margin | given up | wrongly | below the bar | samples saved |"
    yield "|---|---|---|---|---|---|"
    stages = recordings[0].stages
    subsets = [subset for size in range(1, len(stages) + 1) for subset in combinations(stages, size)]
    for subset in subsets:
        for margin in margins:
            out, wrong, wins, total, saved, full = 0, 0, 0, 0, 0, 0
            for recording in recordings:
                race = Race(subset, (), recording.sign, margin)
                for contest in recording.contests:
                    samples = outcome(contest, race)
                    total += 1
                    wins += contest.wins
                    out += samples is not None
                    wrong += samples is not None and contest.wins
                    saved += 0 if samples is None else recording.samples - samples
                full += recording.evaluations * recording.samples
            shown = ", ".join(map(str, subset))
            yield f"| {shown} | {margin:g} | {out / total:.1%} | {wrong} | {wins} | {saved / full:.1%} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of recorded runs")
    parser.add_argument("--margins", nargs="+", type=float, default=[1.0, 2.0, 2.5, 3.0, 4.0], help="standard errors")
    chosen = parser.parse_args()
    for line in rows([read(folder) for folder in chosen.runs], chosen.margins):
        print(line)


if __name__ == "__main__":
    main()
