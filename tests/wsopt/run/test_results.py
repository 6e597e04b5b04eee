"""Rows of results.json: differences to EMA* on the same noise."""

from __future__ import annotations

from typing import Any

import pytest

from wsopt.run._results import with_differences


def row(name: str, value: float | None, replicates: list[float] | None = None, **more: Any) -> dict[str, Any]:
    own = {"name": name, "metric": "fid", "features": "digits", "reference": "digits/train", "value": value, **more}
    return own | ({} if replicates is None else {"replicates": replicates})


def test_the_error_of_a_difference_is_that_of_the_paired_replicates() -> None:
    """Each score scatters by 10, their difference by 1: replicates differ by 1, 2 and 3, whose mean is 2.

    Delete-a-block: sqrt((B - 1) / B * sum((d - mean)^2)) = sqrt(2 / 3 * 2).
    """
    star, best = row("ema*", 22.0, [12.0, 32.0, 22.0]), row("best", 20.0, [11.0, 30.0, 19.0])
    found = {one["name"]: one for one in with_differences([best, star])}
    assert found["best"]["difference"] == -2.0
    assert found["best"]["difference_stderr"] == pytest.approx((4 / 3) ** 0.5, rel=1e-12)
    assert (found["ema*"]["difference"], found["ema*"]["difference_stderr"]) == (0.0, 0.0)
    assert all("replicates" not in one for one in found.values())


def test_columns_are_not_mixed() -> None:
    star = row("ema*", 5.0, [5.0, 5.0])
    other = row("best", 4.0, [4.0, 4.0], reference="digits/test")
    same = row("best", 3.0, [3.0, 3.5])
    found = with_differences([star, other, same])
    assert "difference" not in found[1]
    assert found[2]["difference"] == -2.0


def test_what_has_no_replicates_or_no_value() -> None:
    rows = [row("ema*", 5.0, [5.0, 6.0]), row("last", 7.0), row("best", None), row("uniform", 4.0, [1.0])]
    _, last, best, uniform = with_differences(rows)
    assert (last["difference"], last["difference_stderr"]) == (2.0, None)
    assert "difference" not in best
    assert (uniform["difference"], uniform["difference_stderr"]) == (-1.0, None)
