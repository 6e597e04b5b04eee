"""Rules that every optimizer keeps (see `wsopt.optimizers.Optimizer`), in every configuration."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optimizer_zoo import ZOO, generator, make, spend
from wsopt.optimizers import Optimizer
from wsopt.types import Candidate, FloatArray, Result, Start

D = 6
TARGET = np.linspace(-1, 1, D)

every = pytest.mark.parametrize("name", ZOO)


def sphere(x: FloatArray) -> float:
    return float(((x - TARGET) ** 2).sum())


def starts() -> list[Start]:
    return [Start(f"ema-{i}", np.full(D, i / 10), sphere(np.full(D, i / 10))) for i in range(4)]


def new(name: str, seed: int = 0) -> Optimizer:
    return make(name, starts(), seed)


def answer(candidate: Candidate, failing: set[int]) -> Result:
    return Result(candidate.id, None if candidate.id in failing else sphere(candidate.x))


def same(first: list[Candidate], second: list[Candidate]) -> None:
    assert [candidate.id for candidate in first] == [candidate.id for candidate in second]
    np.testing.assert_array_equal([candidate.x for candidate in first], [candidate.x for candidate in second])


@every
def test_asks_are_cut_anywhere_and_tells_come_in_any_order(name: str) -> None:
    """The same candidates come of large asks answered in order and of small ones answered in part and in disorder."""
    straight, disorder = new(name), new(name)
    draws = generator(7)
    failing = {5, 6, 7, 21, 40}
    asked: list[Candidate] = []
    while len(asked) < 60:
        candidates = straight.ask(60 - len(asked))
        straight.tell([answer(candidate, failing) for candidate in candidates])
        asked += candidates
    out: list[Candidate] = []
    again: list[Candidate] = []
    while len(again) < 60 or out:
        more = disorder.ask(min(int(draws.integers(1, 8)), 60 - len(again)))
        again += more
        out += more
        take = len(out) if not more else int(draws.integers(0, len(out) + 1))
        chosen = [out.pop(int(draws.integers(len(out)))) for _ in range(take)]
        disorder.tell([answer(candidate, failing) for candidate in chosen])
    same(asked, again)
    assert [candidate.id for candidate in asked] == list(range(60))
    np.testing.assert_array_equal(straight.recommend(), disorder.recommend())


@every
@pytest.mark.parametrize("seed", range(3))
def test_a_fresh_instance_that_is_told_the_same_goes_on_the_same(name: str, seed: int) -> None:
    """What resuming after a kill does: asks as recorded, tells as far as there are, then on."""
    first, second = new(name, seed), new(name, seed)
    cut = int(generator(seed).integers(1, 50))
    record: list[tuple[list[Candidate], list[Result]]] = []
    told = 0
    while told < cut:
        candidates = first.ask(20)
        results = [answer(candidate, {3, 4}) for candidate in candidates][: cut - told]
        for result in results:
            first.tell([result])
        told += len(results)
        record.append((candidates, results))
    unanswered = record[-1][0][len(record[-1][1]) :]
    for candidates, results in record:
        same(candidates, second.ask(len(candidates)))
        second.tell(results)
    for optimizer in (first, second):
        optimizer.tell([answer(candidate, set()) for candidate in unanswered])
    assert spend(first, sphere, 30, ask=5) == spend(second, sphere, 30, ask=9)
    np.testing.assert_array_equal(first.recommend(), second.recommend())


@every
def test_global_generators_are_neither_touched_nor_read(name: str) -> None:
    def states() -> tuple[Any, ...]:
        numpy = np.random.get_state(legacy=True)  # noqa: NPY002 - the state that must not change
        return random.getstate(), numpy[1].tobytes(), numpy[2:], torch.get_rng_state().tolist()  # type: ignore[index]

    def run() -> tuple[list[float], list[float]]:
        before = states()
        optimizer = new(name)
        losses = spend(optimizer, sphere, 60)
        recommended = optimizer.recommend().tolist()
        assert states() == before
        return losses, recommended

    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        first = run()
        random.seed(99)
        np.random.seed(99)  # noqa: NPY002
        torch.manual_seed(99)
        assert run() == first
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


@every
def test_nothing_is_written_and_nothing_is_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spend(new(name), sphere, 40)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@every
def test_another_seed_is_another_search(name: str) -> None:
    first, second = spend(new(name, 0), sphere, 30), spend(new(name, 1), sphere, 30)
    assert (first == second) == name.startswith("coordinate")


@every
def test_a_wrong_id_is_refused_and_changes_nothing(name: str) -> None:
    optimizer = new(name)
    (candidate,) = optimizer.ask(1)
    with pytest.raises(ValueError, match="never asked"):
        optimizer.tell([Result(candidate.id, 1.0), Result(99, 1.0)])
    optimizer.tell([Result(candidate.id, 1.0)])
    with pytest.raises(ValueError, match="told before"):
        optimizer.tell([Result(candidate.id, 1.0)])


@every
def test_a_search_goes_on_when_everything_fails(name: str) -> None:
    """The best start stays recommended, and points stay finite."""
    optimizer = new(name)
    for _ in range(30):
        candidates = optimizer.ask(20)
        assert candidates
        assert np.isfinite([candidate.x for candidate in candidates]).all()
        optimizer.tell([Result(candidate.id, None) for candidate in candidates])
    best = min(starts(), key=lambda start: start.loss)
    np.testing.assert_array_equal(optimizer.recommend(), best.x)


@every
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_failures_in_any_pattern_do_not_stop_it_from_improving(name: str, share: float) -> None:
    """In one of two searches at least: with four of five failing, 60 results are left, and some are unlucky."""

    def best(seed: int) -> float:
        optimizer, draws = new(name, seed), generator(3 + seed)
        lowest = np.inf
        spent = 0
        while spent < 300:
            candidates = optimizer.ask(min(20, 300 - spent))
            spent += len(candidates)
            results = [Result(c.id, None if draws.random() < share else sphere(c.x)) for c in candidates]
            lowest = min([lowest, *(result.loss for result in results if result.loss is not None)])
            optimizer.tell(results)
        assert np.isfinite(optimizer.recommend()).all()
        return lowest

    start = min(start.loss for start in starts())
    assert best(0) < start or best(1) < start


@every
@pytest.mark.parametrize("value", [0.0, 1e308, -1e308])
def test_losses_of_any_size_and_all_equal(name: str, value: float) -> None:
    optimizer = new(name)
    assert spend(optimizer, lambda x: value, 60) == [value] * 60
    assert np.isfinite(optimizer.recommend()).all()


@every
def test_a_space_of_one_dimension(name: str) -> None:
    start = [Start("a", np.zeros(1), 1.0)]
    losses = spend(make(name, start), lambda x: float((x[0] - 1.0) ** 2), 100)
    assert "keep-sum" in name or min(losses) < 1.0


@every
def test_steps_are_in_units_of_the_scale(name: str) -> None:
    """A space that is 1000 times as wide is searched in the same way. Binary powers, so that nothing rounds."""
    origin = np.zeros(D)
    narrow = make(name, [Start("a", origin, sphere(origin))])
    wide = make(name, [Start("a", origin, sphere(origin))], scale=1024.0)
    assert spend(narrow, sphere, 60) == spend(wide, lambda x: sphere(x / 1024.0), 60)


@every
def test_it_improves_on_its_starts(name: str) -> None:
    optimizer = new(name)
    spend(optimizer, sphere, 400)
    share = 1.0 if name == "nevergrad-spsa" else 0.9  # its gains suit other scales
    assert sphere(optimizer.recommend()) < min(start.loss for start in starts()) * share


@every
def test_returned_arrays_are_not_the_optimizers_own(name: str) -> None:
    optimizer = new(name)
    for _ in range(2):
        optimizer.recommend()[:] = np.nan
        assert np.isfinite(optimizer.recommend()).all()
        spend(optimizer, sphere, 30)
