from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wsopt.errors import InputError
from wsopt.merge import Recipe, read_table

STEPS = (10, 20, 30)
RESULTS = {
    "name": "toy",
    "steps": [10, 20, 30],
    "groups": ["all"],
    "coefficients": {
        "best": [[0.5, 0.25, 0.25]],
        "recommended": [[0.0, 0.0, 1.0]],
        "ema*": None,
        "best-ema": {"name": "ema-0.9", "values": [[0.1, 0.2, 0.7]]},
        "best-single": {"name": "single-20", "step": 20},
    },
}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"10": 0.2, "30": 0.5, "20": 0.3},
        [0.2, 0.3, 0.5],
        [[0.2, 0.3, 0.5]],
        {"steps": [30, 10, 20], "coefficients": [0.5, 0.2, 0.3]},
        {"steps": [30, 10, 20], "groups": ["all"], "coefficients": [[0.5, 0.2, 0.3]]},
        "step,coefficient\n10,0.2\n20, 0.3\n\n# a comment\n30,0.5\n",
        "30,0.5\n10,0.2\n20,3e-1",
        "\ufeff10,0.2\r\n20,0.3\r\n30,0.5\r\n",
    ],
    ids=["object", "list", "rows", "named steps", "as printed", "csv", "csv without a header", "csv of a spreadsheet"],
)
def test_forms(tmp_path: Path, content: object) -> None:
    table = read_table(write(tmp_path / "c", content))
    assert table.aligned(STEPS).tolist() == [[0.2, 0.3, 0.5]]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("best", [0.5, 0.25, 0.25]),
        ("recommended", [0, 0, 1]),
        ("best-ema", [0.1, 0.2, 0.7]),
        ("best-single", [0, 1, 0]),
    ],
)
def test_results_of_a_run(tmp_path: Path, which: str, expected: list[float]) -> None:
    table = read_table(write(tmp_path / "results.json", RESULTS), which)
    assert table.aligned(STEPS).tolist() == [expected]
    assert table.facts["run"] == "toy"


def test_without_a_name_it_is_what_the_run_exported(tmp_path: Path) -> None:
    found = {"best": [[0.5, 0.25, 0.25]], "validated": [[0, 1, 0]]}
    validated = {**RESULTS, "exported": "validated", "coefficients": found}
    for results, expected in ((RESULTS, [0.5, 0.25, 0.25]), (validated, [0, 1, 0])):
        assert read_table(write(tmp_path / "results.json", results)).aligned(STEPS).tolist() == [expected]


def test_groups_by_patterns(tmp_path: Path) -> None:
    content = {
        "coefficients": [[1, 0, 0], [0, 0, 1]],
        "groups": ["head", "rest"],
        "grouping": {"head": ["^head", "out$"], "rest": [".*"]},
    }
    table = read_table(write(tmp_path / "c.json", content))
    shapes: dict[str, tuple[int, ...]] = {"head.w": (1,), "block.w": (1,), "block.out": (1,)}
    assert table.grouping(shapes) == {"head.w": "head", "block.w": "rest", "block.out": "head"}
    content["grouping"] = {"head": ["^head"], "rest": ["block.w"]}
    with pytest.raises(InputError, match=r'c\.json: the patterns of "grouping": none matches 1 tensor: block\.out\.'):
        read_table(write(tmp_path / "c.json", content)).grouping(shapes)
    content["grouping"] = {"head": [".*"], "rest": ["head"]}  # a pattern may be left without tensors
    assert read_table(write(tmp_path / "c.json", content)).grouping(shapes) == dict.fromkeys(shapes, "head")


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    recipe = Recipe("ema:0.9", STEPS, np.array([[0.1, 1 / 3, 0.7]]))
    table = read_table(write(tmp_path / "c.json", recipe.as_json()))
    assert np.array_equal(table.aligned(STEPS), recipe.values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([0.5, 0.5], "has 2 coefficients, and 3 checkpoints"),
        ({"10": 1, "20": 0}, "no coefficient of step 30"),
        ({"10": 1, "20": 0, "30": 0, "40": 0, "50": 0}, "steps 40, 50, which are not among"),
        ({"ten": 1}, "'ten' is not a training step"),
        ({"10": 1, "010": 2}, "step 10 twice"),
        ('{"10": 1, "10": 2}', "'10' twice"),
        ({"10": True}, "true is not a number"),
        ({"10": "0.5"}, "is not a number"),
        ({"10": None}, "null is not a number"),
        ([], "holds no coefficients"),
        ({}, "holds no coefficients"),
        ("", "holds no coefficients"),
        ([[0.5, 0.5], [1]], "differ in length"),
        ([[]], "differ in length, or are empty"),
        ("[0.5, 0.5", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("10,a\n", "'a', the coefficient of step 10, is not a number"),
        ("10;0.5\n", "is not step,coefficient"),
        ("hello", "is not step,coefficient"),
        ({"coefficients": [1, 2], "steps": [1]}, "2 coefficients and 1 steps"),
        ({"coefficients": [1, 2], "steps": [1, 1]}, "list of different whole numbers"),
        ({"coefficients": [1, 2], "steps": "ab"}, "list of different whole numbers"),
        ({"coefficients": [1, 2], "groups": ["a", "b"]}, "1 rows and there are 2 groups"),
        ({"coefficients": [[1], [2]], "groups": ["a", "a"]}, "list of different texts"),
        ({"coefficients": [1], "grouping": {"a": ["("]}}, "no regular expression"),
        ({"coefficients": [1], "grouping": ["a"]}, "not an object"),
        ({"coefficients": [1], "groups": ["a"], "grouping": {"b": ["x"]}}, "no patterns of the group 'a'"),
        ({**RESULTS, "steps": [10, 20]}, "is damaged"),
        ({**RESULTS, "groups": ["a", "b"]}, "is damaged"),
        ({**RESULTS, "coefficients": {"last": [[1, 0, 0]]}}, "no coefficients called 'best'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: object, message: str) -> None:
    path = write(tmp_path / "c.json", content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path).aligned(STEPS)
    assert "c.json" in str(caught.value)


@pytest.mark.parametrize("text", ['{"10": NaN, "20": 0, "30": 0}', "10,nan\n20,0\n30,0", f"[{10**400}, 0, 0]"])
def test_what_is_not_finite_names_its_step(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "c", text)
    with pytest.raises(InputError, match=r"the coefficient of step 10 is (nan|inf)"):
        Recipe(path.name, STEPS, read_table(path).aligned(STEPS))


def test_a_training_time_ema_has_no_coefficients(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--which \(best, recommended, best-ema, best-single\)"):
        read_table(write(tmp_path / "results.json", RESULTS), "ema*")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "absent.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not text"):
        read_table(tmp_path / "binary")


def test_a_sum_other_than_one_is_a_warning() -> None:
    assert Recipe("x", STEPS, np.array([[0.5, 0.25, 0.25]])).warnings() == []
    (warning,) = Recipe("x", STEPS, np.array([[0.5, 0.25, 0.2]])).warnings()
    assert "sum to 0.95, not 1" in warning
    (warning,) = Recipe("x", STEPS, np.array([[10.0, -9.5, 0.5]])).warnings()
    assert "absolute coefficients sum to 20" in warning
