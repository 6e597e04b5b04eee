from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compare_cells import make_cell, make_cells
from wsopt.compare._base import CellRecord
from wsopt.compare._comparable import check_comparable, differences
from wsopt.errors import InputError

LOSSES = [9.0, 8.0, 7.0, 6.0, 5.0]


def cell(
    method: str, instance: str = "train.seed=1", *, kept: dict[str, Any] | None = None, **sections: Any
) -> CellRecord:
    """A run whose resolved sections are laid over the usual ones."""
    base = make_cell(method, instance, LOSSES).resolved
    merged = {key: {**base[key], **value} if isinstance(value, dict) else value for key, value in sections.items()}
    return make_cell(method, instance, LOSSES, resolved=merged, **(kept or {}))


def kinds(*cells: CellRecord) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.kind, one.spoils) for one in differences(cells)]


def test_a_full_matrix_is_comparable() -> None:
    assert differences(make_cells(4, 3)) == ()


def test_what_may_differ() -> None:
    other = cell(
        "cmaes", budget=800, threads=2, output="elsewhere", name="b", optimizer={"name": "cmaes"},
        parameterization={"name": "direct"}, baselines={"singles": 5}, weightspace={"width": 2},
        search={"batch_size": 10, "starts": ["last"], "timeout": 9.0}, report={"curve": [0.5], "figure_pairs": 0},
        validation={"samples": 500}, kept={"provenance": {"packages": {"wsopt": "0.2.0"}}},
    )  # fmt: skip
    assert differences([cell("lcsc"), other]) == ()


BOTH = ("search", "report")


@pytest.mark.parametrize(
    ("section", "entries", "spoils"),
    [
        ("data", {"name": "mnist"}, BOTH),
        ("family", {"channels": 32}, BOTH),
        ("train", {"steps": 4000}, ()),
        ("objective", {"name": "kid"}, BOTH),
        ("objective", {"quantize": "trunc"}, BOTH),
        ("objective", {"preset": "edm"}, BOTH),
        ("objective", {"features": "pixels"}, ("search",)),
        ("objective", {"reference": "test"}, ("search",)),
        ("search", {"samples": 500}, ("search",)),
        ("report", {"samples": 500}, ("report",)),
        ("report", {"features": ["pixels"]}, ("report",)),
        ("report", {"references": ["test"]}, ("report",)),
        ("checkpoints", {"kind": "ema"}, ()),
    ],
)
def test_what_must_agree_over_all_runs(section: str, entries: dict[str, Any], spoils: tuple[str, ...]) -> None:
    found = kinds(cell("lcsc"), cell("cmaes", "train.seed=2", **{section: entries}))
    assert found == [(f"{section}.{next(iter(entries))}", spoils)]


def test_a_sentence_names_values_and_runs() -> None:
    cells = [cell("lcsc", "train.seed=1"), cell("lcsc", "train.seed=2"), cell("cmaes", search={"samples": 500})]
    (found,) = differences(cells)
    assert found.text == (
        "search.samples is 500 in runs/cmaes-train.seed=1, 1000 in runs/lcsc-train.seed=1 and 1 more."
    )


def test_the_seed_of_the_training_makes_instances() -> None:
    assert kinds(cell("lcsc", "train.seed=1"), cell("lcsc", "train.seed=2")) == []


def test_noise_may_differ_between_instances_but_not_within_one() -> None:
    assert kinds(cell("lcsc"), cell("lcsc", "train.seed=2", seed=5), cell("cmaes")) == []
    assert kinds(cell("lcsc"), cell("cmaes", seed=5)) == [("seed", BOTH)]


def prints(digest: str) -> dict[str, Any]:
    return {"provenance": {"checkpoints": {"fingerprint": digest * 64}}}


def test_checkpoints_of_an_instance_have_one_content() -> None:
    found = differences([cell("lcsc"), cell("cmaes", kept=prints("b"))])
    assert [(one.kind, one.spoils) for one in found] == [("checkpoints", ())]
    assert "bbbbbbbbbbbb in runs/cmaes-train.seed=1" in found[0].text


def test_a_recipe_is_not_compared_with_given_checkpoints() -> None:
    given = cell("cmaes", checkpoints={"path": "/data/a"}, train=None)
    assert kinds(cell("lcsc"), given) == []


def test_another_window_is_said_once() -> None:
    kept = {**prints("b"), "results": {"steps": [10, 20, 30]}}
    usual = {"results": {"steps": [10, 20, 30, 40]}}
    window = cell("narrow", checkpoints={"window": [10, 30]}, kept=kept)
    assert kinds(cell("lcsc", kept=usual), window) == [("checkpoints.window", ())]
    assert kinds(cell("lcsc"), cell("narrow", checkpoints={"window": [10, 30]})) == [("checkpoints.window", ())]
    # A window that takes the same checkpoints is no difference.
    assert kinds(cell("lcsc", kept=usual), cell("narrow", checkpoints={"window": [0, 99]}, kept=usual)) == []


def test_other_steps_without_a_setting_that_explains_them() -> None:
    two, three = {"results": {"steps": [10, 20]}}, {"results": {"steps": [10, 20, 30]}}
    cells = [cell("lcsc", kept=two), cell("cmaes", kept=three)]
    (found,) = differences(cells)
    assert found.kind == "checkpoints"
    assert "3, of steps [10, 20, 30] in runs/cmaes-train.seed=1" in found.text


def test_versions_of_the_objective() -> None:
    objective = dict(make_cell().results["objective"])
    newer = {"results": {"objective": {**objective, "version": 2}}}
    silent = {"results": {"objective": {key: value for key, value in objective.items() if key != "version"}}}
    assert kinds(cell("lcsc"), cell("cmaes", kept=newer)) == [("objective.version", BOTH)]
    assert kinds(cell("lcsc"), cell("cmaes", kept=silent)) == []


def test_a_plugin_that_was_changed_and_one_that_only_some_runs_have() -> None:
    def plugin(digest: str, name: str = "mine.py") -> list[dict[str, str]]:
        return [{"path": f"/somewhere/{digest}/{name}", "sha256": digest * 64}]

    assert kinds(cell("lcsc", plugins=plugin("a")), cell("cmaes", plugins=plugin("b"))) == [("plugins", BOTH)]
    assert kinds(cell("lcsc", plugins=plugin("a")), cell("cmaes", plugins=plugin("b", "other.py"))) == []
    assert kinds(cell("lcsc"), cell("cmaes", plugins=plugin("b"))) == []


def test_one_instance_under_two_names_counts_once() -> None:
    cells = [cell("lcsc", name, train={"seed": 4}, kept=prints("a")) for name in ("one", "two")]
    (found,) = differences(cells)
    assert found.kind == "instances"
    assert "one and two" in found.text


def scored(method: str, factor: float) -> CellRecord:
    """A run whose baselines have `factor` times the usual scores."""
    found = cell(method)
    return replace(found, rows=tuple(replace(row, value=factor * row.value) for row in found.rows))


def test_equal_weights_that_score_differently_give_away_what_no_config_says() -> None:
    (found,) = differences([cell("lcsc"), scored("cmaes", 1.1)])
    assert (found.kind, found.spoils) == ("scores", BOTH)
    assert "the fid of the last checkpoint on the report split is 20.9 in runs/cmaes" in found.text
    assert kinds(cell("lcsc"), scored("cmaes", 1 + 1e-6)) == []
    # Other weights may score as they like.
    assert kinds(cell("lcsc"), replace(scored("cmaes", 1.1), instance="train.seed=2")) == []


def test_differences_are_refused_unless_allowed() -> None:
    cells = [cell("lcsc"), cell("cmaes", search={"samples": 500}, report={"samples": 100})]
    with pytest.raises(InputError, match=r"search\.samples is 500") as caught:
        check_comparable(cells, ["report.samples"])
    assert "report.samples is" not in str(caught.value)
    assert 'force = ["search.samples"]' in str(caught.value)
    allowed = check_comparable(cells, ["search.samples", "report.samples"])
    assert [one.kind for one in allowed] == ["search.samples", "report.samples"]
    assert check_comparable(cells, ["all"]) == allowed
    assert check_comparable(cells, [one.text for one in allowed]) == allowed


def test_the_order_of_runs_changes_nothing() -> None:
    cells = [cell("lcsc"), cell("cmaes", search={"samples": 500}), cell("lcsc", "train.seed=2", seed=3)]
    assert differences(cells) == differences(cells[::-1])
