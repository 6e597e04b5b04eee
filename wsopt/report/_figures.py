"""All figures of a run."""

from __future__ import annotations

from pathlib import Path

from wsopt.report._figure_coefficients import coefficients_figure
from wsopt.report._figure_convergence import convergence_figure
from wsopt.report._figure_samples import samples_figure
from wsopt.report._record import RunRecord
from wsopt.report._style import save

FOLDER = "figures"


def write_figures(folder: Path | str) -> list[Path]:
    """Draw the figures of a finished run into its folder ``figures``.

    ``coefficients.png`` and ``convergence.png`` always, ``samples.png`` where the run kept samples. Each is written
    under a temporary name and renamed.

    Args:
        folder: the run folder.

    Returns:
        The files written.

    Raises:
        InputError: for a folder that is not a finished run, see `RunRecord.load`.
    """
    record = RunRecord.load(folder)
    drawn = {"coefficients": coefficients_figure(record), "convergence": convergence_figure(record)}
    pairs = record.samples()
    if pairs is not None and len(pairs.best):
        drawn["samples"] = samples_figure(record, pairs)
    return [save(figure, record.path / FOLDER / f"{name}.png") for name, figure in drawn.items()]
