"""One command's work in the folder of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsopt.compare._cells import Cell, Cells
from wsopt.compare._manifest import Manifest
from wsopt.compare._runner import Failure, Runner, Watch
from wsopt.compare._state import is_finished
from wsopt.errors import InputError, ResumeError
from wsopt.files import locked


def run_cells(cells: Cells, folder: Path, file: Path, command: str, watch: Watch) -> list[Failure]:
    """Run all cells that are not finished, as `wsopt.compare.Cells.jobs` processes of ``wsopt run`` at a time.

    Args:
        cells: what to run.
        folder: of the comparison: gets manifest.json and logs/.
        file: of the comparison, for the manifest.
        command: that was given, for the manifest.
        watch: where it is shown, and who may ask for a stop.

    Returns:
        The cells that failed; the others are finished.

    Raises:
        Interrupted: where the user asked for a stop before all was done.
        ResumeError: where another command works on the same comparison.
        InputError: where `folder` cannot be made, or has a manifest.json that is none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}). Give another folder with --output.") from error
    text = f"{folder} is in use by another wsopt compare. Wait for it, or stop it, before going on."
    with locked(folder, lambda: ResumeError(text)):
        manifest = Manifest(folder, cells, file, command)
        return Runner(cells, folder / "logs", manifest, watch).run()


def finished_cells(cells: Cells) -> Sequence[Cell]:
    """The cells whose runs hold the results of their whole budget."""
    return [cell for cell in cells.cells if is_finished(cell.folder, cell.config.budget)]
