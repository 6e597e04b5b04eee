from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import PathCollection

from wsopt.report import RunRecord, write_figures
from wsopt.report._figure_coefficients import coefficients_figure
from wsopt.report._figure_convergence import convergence_figure
from wsopt.report._figure_samples import samples_figure
from wsopt.report._style import save

MakeRun = Callable[..., Path]


def size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@pytest.mark.parametrize(
    ("groups", "images", "names"),
    [
        (1, (1, 8, 8), ["coefficients", "convergence", "samples"]),
        (3, (3, 32, 32), ["coefficients", "convergence", "samples"]),
        (12, None, ["coefficients", "convergence"]),
    ],
)
def test_writes_every_figure(
    make_run: MakeRun, groups: int, images: tuple[int, int, int] | None, names: list[str]
) -> None:
    folder = make_run(groups=groups, images=images, budget=80)
    before = dict(mpl.rcParams)
    found = write_figures(folder)
    assert found == [folder / "figures" / f"{name}.png" for name in names]
    for path in found:
        width, height = size(path)
        assert width >= 800
        assert height >= 400
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [f"{name}.png" for name in names]
    assert dict(mpl.rcParams) == before


def test_same_record_same_bytes(make_run: MakeRun) -> None:
    first, second = write_figures(make_run("a", budget=60)), write_figures(make_run("b", budget=60))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_nothing_is_left_of_a_failed_write(make_run: MakeRun) -> None:
    record = RunRecord.load(make_run(budget=60))
    figure = convergence_figure(record)
    path = record.path / "figures" / "convergence.png"
    save(figure, path)
    before = path.read_bytes()
    figure.text(0, 0, "$\\nosuchmacro$")
    with pytest.raises(ValueError, match="nosuchmacro"):
        save(figure, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["convergence.png"]


def test_coefficients_show_the_searched_and_the_ema(make_run: MakeRun) -> None:
    record = RunRecord.load(make_run())
    axes = coefficients_figure(record).axes[0]
    best, ema = record.coefficients("best"), record.coefficients("best-ema")
    assert best is not None
    assert ema is not None
    dots = [np.asarray(found.get_offsets()) for found in axes.collections if isinstance(found, PathCollection)]
    drawn = np.concatenate(dots)
    order = np.argsort(drawn[:, 0])
    np.testing.assert_allclose(drawn[order, 0], record.steps)
    np.testing.assert_allclose(drawn[order, 1], best[0])
    line = next(line for line in axes.lines if line.get_label() == "EMA 0.995")
    np.testing.assert_allclose(np.asarray(line.get_ydata()), ema[0])
    caption = next(text.get_text() for text in axes.texts)
    assert f"sum 1.000, largest |coefficient| {np.abs(best).max():.3f}" in caption


@pytest.mark.parametrize(
    ("origin", "title", "label"),
    [
        ("search", "Coefficients of LCSC's best combination", "LCSC, positive"),
        ("uniform", "Coefficients of the best combination, a baseline: uniform average", "uniform average, positive"),
    ],
)
def test_coefficients_are_named_by_whose_they_are(make_run: MakeRun, origin: str, title: str, label: str) -> None:
    folder = make_run()
    document = json.loads((folder / "results.json").read_text())
    document["best"]["from"] = origin
    (folder / "results.json").write_text(json.dumps(document))
    figure = coefficients_figure(RunRecord.load(folder))
    axes = figure.axes[0]
    shown = [text.get_text() for text in [*axes.texts, *figure.texts, axes.title]] + [axes.get_title(loc="left")]
    assert title in shown
    legend = axes.get_legend()
    assert legend is not None
    assert label in [text.get_text() for text in legend.get_texts()]


def test_convergence_shows_the_running_best_and_the_levels(make_run: MakeRun) -> None:
    record = RunRecord.load(make_run(budget=200))
    axes = convergence_figure(record).axes[0]
    values = [trial.value for trial in (*record.trace.baselines, *record.trace.candidates)]
    best = np.fmin.accumulate(np.array([np.nan if value is None else value for value in values]))
    curve = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), best)
    texts = [text.get_text() for text in axes.texts]
    assert "last checkpoint 4.61" in texts
    assert "EMA* (training 0.998) 3.38" in texts
    assert "16 baselines, 8% of the budget" in texts
    low, high = axes.get_ylim()
    assert low < best[-1] < 4.61 < high
    assert high < 10


def test_convergence_of_a_maximised_objective_and_of_failures_only(make_run: MakeRun) -> None:
    folder = make_run(budget=60)
    path = folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    results["objective"]["direction"] = "maximize"
    path.write_text(json.dumps(results), encoding="utf-8")
    axes = convergence_figure(RunRecord.load(folder)).axes[0]
    curve = np.asarray(next(line for line in axes.lines if line.get_drawstyle() == "steps-post").get_ydata())
    assert (np.diff(curve) >= 0).all()
    assert axes.get_ylabel().endswith("↑")
    (folder / "journal.jsonl").write_text('{"event": "baseline", "name": "last", "failure": "NaN"}\n', encoding="utf-8")
    axes = convergence_figure(RunRecord.load(folder)).axes[0]
    assert not axes.lines
    assert any("1 failed" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (12, 12), (16, 8), (25, 9)])
def test_samples_are_wrapped_evenly(make_run: MakeRun, count: int, columns: int) -> None:
    folder = make_run(budget=40)
    with np.load(folder / "samples.npz") as arrays:
        baseline, best = (np.resize(arrays[name], (count, *arrays[name].shape[1:])) for name in ("baseline", "best"))
    np.savez(
        folder / "samples.npz", baseline=baseline, best=best, distance=np.ones(count), indices=np.arange(count),
        baseline_name=np.array("ema-0.99"),
    )  # fmt: skip
    record = RunRecord.load(folder)
    pairs = record.samples()
    assert pairs is not None
    figure = samples_figure(record, pairs)
    assert len(figure.axes) == 2 * count
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == columns
    boxes = np.array([axes.get_position().extents for axes in figure.axes])
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), pairs.best[0, 0])
