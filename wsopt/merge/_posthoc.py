"""Post-hoc EMA: an average that was not kept, made of all the averages that were, by their profiles."""

from __future__ import annotations

from dataclasses import replace

from wsopt.checkpoints import CheckpointSet, Snapshot
from wsopt.errors import InputError
from wsopt.merge._profiles import Profile
from wsopt.merge._recipe import Recipe
from wsopt.merge._sources import Source
from wsopt.parameterizations import ProfilePoint, posthoc


def posthoc_recipe(profile: Profile, source: Source) -> tuple[CheckpointSet, Recipe]:
    """The EMA `profile` at the last chosen step, out of every snapshot whose profile is known.

    Args:
        profile: ``ema`` or ``power``.
        source: where the snapshots are: raw weights as selected, and all EMAs of the same network up to the last of
            them. An EMA file that tells no step is taken to be of the last one.

    Returns:
        The snapshots in the order of steps, several of one step where there are several streams, and the recipe, with
        ``profile_error`` among its facts (see `wsopt.parameterizations.PosthocEma`).

    Raises:
        InputError: where the profile is no EMA, no EMA of a known rate or width is there, or the snapshots have nothing
            to do with the target.
    """
    if profile.rule not in ("ema", "power"):
        raise InputError(f"--from-emas makes ema:RATE or power:WIDTH, not {profile}. Leave --from-emas out.")
    chosen = source.averages()
    if chosen.kind not in ("raw", "ema"):
        raise InputError(f"--from-emas combines raw weights and EMAs, and these checkpoints are of kind {chosen.kind}.")
    last = chosen.steps[-1]
    pairs = [*zip(chosen.steps, chosen.snapshots, strict=True), *_emas(chosen.emas, last)]
    known = sorted((pair for pair in pairs if _has_profile(*pair)), key=lambda pair: (pair[0], str(pair[1].stream)))
    if not any(one.stream.kind == "ema" for _, one in known):
        raise InputError(
            f"{source.folder} holds no EMA snapshot of a known rate or width up to step {last}, which --from-emas "
            f"needs. Leave --from-emas out to weight the checkpoints themselves."
        )
    points = [_point(step, snapshot) for step, snapshot in known]
    number = {"rate" if profile.rule == "ema" else "width": profile.number}
    found = posthoc(points, ProfilePoint(last, **number))
    steps = tuple(step for step, _ in known)
    recipe = Recipe(
        label=f"{profile} from EMAs",
        steps=steps,
        values=found.coefficients[None],
        facts={"profile_error": found.error, "streams": sorted({str(one.stream) for _, one in known})},
        names=tuple(f"{step} {snapshot.stream}" for step, snapshot in known),
        notes=_notes(len(pairs) - len(known), found.error),
    )
    return replace(chosen, snapshots=tuple(one for _, one in known), steps=steps, emas=()), recipe


def _emas(snapshots: tuple[Snapshot, ...], last: int) -> list[tuple[int, Snapshot]]:
    stepped = [(last if one.step is None else one.step, one) for one in snapshots]
    return [(step, one) for step, one in stepped if step <= last]


def _has_profile(step: int, snapshot: Snapshot) -> bool:
    stream = snapshot.stream
    return step >= 1 and (stream.kind == "raw" or stream.rate is not None or stream.width is not None)


def _point(step: int, snapshot: Snapshot) -> ProfilePoint:
    return ProfilePoint(step, snapshot.stream.rate, snapshot.stream.width)


def _notes(unknown: int, error: float) -> tuple[str, ...]:
    notes = []
    if unknown:
        notes.append(f"{unknown} snapshots whose rate and width are unknown, or of step 0, took no part")
    if error > 0.1:
        notes.append(
            f"the combined profile is off by {error:.0%} of the wanted one: the snapshots do not hold that average; "
            f"keep them more often, or ask for a wider one"
        )
    return tuple(notes)
