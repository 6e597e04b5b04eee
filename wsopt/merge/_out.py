"""Whether a file may be written where the user wants it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsopt.errors import InputError


def check_out(out: Path, inputs: Iterable[Path], folder: Path | None, force: bool, is_folder: bool = False) -> None:
    """Raise InputError where `out` is not to be written.

    Args:
        out: the file, or the folder of a peft adapter.
        inputs: the checkpoints' files and folders.
        folder: where the checkpoints lie; None where that is nowhere in particular.
        force: whether something that is there may be replaced.
        is_folder: which of both `out` is.
    """
    if is_folder:
        _check_folder(out)
    else:
        _check_file(out)
    target = out.resolve()
    for given in inputs:
        path = given.resolve()
        if target == path or path in target.parents or (out.exists() and path.exists() and out.samefile(path)):
            raise InputError(f"--out {out} is one of the checkpoints ({given}). Give another name.")
    if folder is not None and target.parent == folder.resolve():
        raise InputError(
            f"--out {out} lies in the folder of the checkpoints, where the next command would take it for one of them. "
            f"Give another folder."
        )
    if out.exists() and not force:
        raise InputError(f"--out {out} exists. Give another name, or --force to replace it.")


def _check_file(out: Path) -> None:
    if out.is_dir():
        raise InputError(f"--out {out} is a folder. Give a file's name in it, like {out / 'merged.safetensors'}.")
    if out.suffix != ".safetensors":
        raise InputError(
            f"--out {out}: merged weights are written as safetensors. Give a name like {out.stem}.safetensors."
        )


def _check_folder(out: Path) -> None:
    if out.suffix == ".safetensors" or out.is_file():
        raise InputError(
            f"--out {out}: an adapter in peft style is a folder with two files. Give a folder's name, like {out.stem}."
        )
