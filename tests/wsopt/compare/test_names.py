from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare_cells import resolved_config
from wsopt.compare._names import instance_names, method_names, natural
from wsopt.compare._settings import settings as flattened
from wsopt.compare._settings import varying


def config(training: int = 1, /, **sections: Any) -> dict[str, Any]:
    """A resolved config; `sections` are laid over its own, entry by entry."""
    found = resolved_config("lcsc", training, 400, 1000)
    for section, entries in sections.items():
        found[section] = {**found[section], **entries} if isinstance(entries, dict) else entries
    return found


LCSC = {"name": "lcsc", "mutation_scale": 0.01, "keep_sum": False}
PLUS = {"name": "one-plus-one", "step": 0.1, "success_rate": 0.2}
WHITE = {"name": "difference", "coordinates": "sqrt-whitened"}


def test_names_come_first_and_parameters_are_compared_within_a_component() -> None:
    configs = [
        config(optimizer=LCSC, parameterization={"coordinates": "difference"}),
        config(optimizer=PLUS, parameterization=WHITE),
        config(optimizer={**PLUS, "step": 0.03}, parameterization=WHITE),
    ]
    assert method_names(configs) == [
        "lcsc, difference", "one-plus-one, sqrt-whitened, step 0.1", "one-plus-one, sqrt-whitened, step 0.03",
    ]  # fmt: skip


def test_what_makes_an_instance_or_cannot_change_a_result_is_no_method() -> None:
    other = config(
        2, name="b", seed=7, budget=800, output="elsewhere", threads=2, device="cuda",
        search={"batch_size": 10}, report={"figure_pairs": 1, "curve": [0.5]}, weightspace={"width": 4},
    )  # fmt: skip
    assert method_names([config(), other]) == ["lcsc", "lcsc"]


def test_keys_of_one_last_part_are_told_by_their_section() -> None:
    names = method_names([config(), config(search={"samples": 500}, report={"samples": 2000})])
    assert names == ["search.samples 1000, report.samples 5000", "search.samples 500, report.samples 2000"]


def test_values_in_words() -> None:
    names = method_names([
        config(optimizer=LCSC, checkpoints={"window": [500, 1500]}),
        config(optimizer={**LCSC, "keep_sum": True}, checkpoints={"window": None}),
    ])  # fmt: skip
    assert names == ["window 500-1500, keep-sum off", "window unset, keep-sum on"]


def test_long_lists_are_cut_unless_the_names_would_be_alike() -> None:
    long = [f"pattern-{i}" for i in range(9)]
    one, two = config(search={"starts": long}), config(search={"starts": ["ema-*", "last"]})
    assert method_names([one, two]) == ["starts pattern-0..pattern-8 (9)", "starts ema-*-last"]
    twin = config(search={"starts": [long[0], "last", *long[2:]]})
    names = method_names([one, twin])
    assert len(set(names)) == 2
    assert names[0] == f"starts {json.dumps(long)}"


def test_keys_that_an_older_run_does_not_know_have_their_default() -> None:
    old, new = config(), config(validation={"samples": 0, "patience": None}, search={"timeout": None})
    del old["validation"], old["search"]["batch_size"]
    assert varying([flattened(old), flattened(new)]) == []


@given(st.lists(st.tuples(st.sampled_from([0.01, 0.1, 1.0]), st.booleans(), st.integers(0, 2)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_equal_configs_have_equal_names_and_others_others(choices: list[tuple[float, bool, int]]) -> None:
    configs = [
        config(seed, optimizer={"name": "lcsc", "mutation_scale": scale, "keep_sum": keep})
        for scale, keep, seed in choices
    ]
    names = method_names(configs)
    identities = [choice[:2] for choice in choices]
    assert len(set(identities)) == len(set(names)) == len(set(zip(identities, names, strict=True)))


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ([(4, 0), (5, 0)], ["train.seed=4", "train.seed=5"]),
        ([(4, 1), (4, 2)], ["seed=1", "seed=2"]),
        ([(4, 4), (5, 5)], ["train.seed=4, seed=4", "train.seed=5, seed=5"]),
        ([(4, 1), (4, 1)], ["train.seed=4", "train.seed=4"]),
    ],
)
def test_instances_by_what_differs(seeds: list[tuple[int, int]], expected: list[str]) -> None:
    configs = [config(training, seed=seed) for training, seed in seeds]
    assert instance_names(configs, [f"{training}" * 16 for training, _ in seeds]) == expected


def given_checkpoints(path: str, seed: int = 0) -> dict[str, Any]:
    return config(checkpoints={"path": path}, train=None, seed=seed)


def test_given_checkpoints_are_told_by_folder_and_by_content_where_that_is_not_enough() -> None:
    configs = [given_checkpoints("/data/a"), given_checkpoints("/data/b"), given_checkpoints("/other/a")]
    assert instance_names(configs[:2], ["1" * 20, "2" * 20]) == ["checkpoints=a", "checkpoints=b"]
    assert instance_names(configs, ["1" * 20, "2" * 20, "3" * 20]) == [
        "checkpoints=a (11111111)", "checkpoints=b", "checkpoints=a (33333333)",
    ]  # fmt: skip
    assert instance_names(configs, ["1" * 20, "2" * 20, "1" * 20])[::2] == ["checkpoints=a"] * 2
    assert instance_names(configs[:1], ["1" * 20]) == ["seed=0"]


def test_equal_content_is_one_instance_however_it_came() -> None:
    configs = [config(4), given_checkpoints("/data/a"), config(5)]
    assert instance_names(configs, ["4" * 20, "4" * 20, "5" * 20]) == ["train.seed=4", "train.seed=4", "train.seed=5"]


def test_other_windows_of_one_training_are_one_instance() -> None:
    configs = [config(4), config(4, checkpoints={"window": [500, 900]}), config(5)]
    assert instance_names(configs, ["4" * 20, "9" * 20, "5" * 20]) == ["train.seed=4", "train.seed=4", "train.seed=5"]


def test_numbers_in_names_sort_by_value() -> None:
    names = ["train.seed=10", "train.seed=9", "lcsc", "10", "9", "train.seed=9, seed=2"]
    assert sorted(names, key=natural) == ["lcsc", "train.seed=9", "train.seed=9, seed=2", "train.seed=10", "9", "10"]
