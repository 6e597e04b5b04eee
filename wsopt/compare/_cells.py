"""The cells of a comparison: one run for each method and instance, every config of which is valid."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsopt.compare._file import Written
from wsopt.compare._layers import Entry, layered
from wsopt.compare._matrix import Instance, Method, common, instances, methods
from wsopt.config import Config, load_config
from wsopt.errors import ConfigError, Problem
from wsopt.plugin_manager import load_plugins
from wsopt.registry import Registry


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a comparison.

    Args:
        method: what is compared.
        instance: what methods are paired on.
        base: the config file that it begins with.
        overrides: pairs of dotted key and value text, laid over `base`.
        plugins: single-file plugins besides the config's own.
        config: what all that resolves to.
    """

    method: str
    instance: str
    base: Path
    overrides: tuple[tuple[str, str], ...]
    plugins: tuple[Path, ...]
    config: Config

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.config.run_folder

    @property
    def training(self) -> Path | None:
        """Where its checkpoints are trained; None where they are given."""
        given = self.config.train is None or self.config.checkpoints.path is not None
        return None if given else self.config.training_folder

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of ``wsopt`` that run it."""
        sets = [word for key, text in self.overrides for word in ("--set", f"{key}={text}")]
        plugins = [word for path in self.plugins for word in ("--plugin", str(path))]
        return ("run", str(self.base), *sets, *plugins)

    @property
    def command(self) -> str:
        """The same as a command line."""
        return shlex.join(["wsopt", *self.arguments])


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of a comparison, and how they are compared.

    Args:
        name: of the comparison.
        cells: method by method, so that neighbours belong to different instances.
        reference: the method that others are compared with; None where there is one only.
        comparisons: declared pairs of methods; None for every other against the reference.
        forced: kinds of differences that are allowed.
        jobs: cells that run at a time.
        tuning: how the settings of methods were chosen; None where the file does not say.
    """

    name: str
    cells: tuple[Cell, ...]
    reference: str | None
    comparisons: tuple[tuple[str, str], ...] | None
    forced: tuple[str, ...]
    jobs: int
    tuning: Mapping[str, str] | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in order."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def instances(self) -> tuple[str, ...]:
        """Names of the instances, in order."""
        return tuple(dict.fromkeys(cell.instance for cell in self.cells))

    @property
    def folder(self) -> Path:
        """Where the comparison's own files go where nothing else is asked for: ``<output of the cells>/<name>``."""
        return self.cells[0].config.output / self.name


def load_cells(written: Written, overrides: Sequence[tuple[str, str]] = (), plugins: Sequence[Path] = ()) -> Cells:
    """Load the config of every cell.

    Args:
        written: the file of the comparison.
        overrides: pairs of dotted key and value text, for every cell, as given to ``--set``.
        plugins: single-file plugins besides the configs' own.

    Raises:
        ConfigError: with every problem of the file and of every cell's config.
        PluginError: where a config names what a broken plugin may have had.
    """
    return _Loader(written, overrides, plugins).load()


class _Loader:
    def __init__(self, written: Written, overrides: Sequence[tuple[str, str]], plugins: Sequence[Path]) -> None:
        self.written = written
        self.plugins = tuple(plugins)
        self.options = [Entry(key, text) for key, text in overrides]
        self.problems: list[Problem] = []
        self.registry = _registries()
        self.common = common(written, self.problems)
        self.methods = methods(written, self.problems)
        self.instances = instances(written, self.problems)

    def load(self) -> Cells:
        if not self.written.base.is_file():
            what = "is no file" if self.written.base.is_dir() else "does not exist"
            text = f"{self.written.base} {what}. Give the path of a config in TOML, from this file's folder"
            self._problem(("base",), text)
            self._raise()
        names = self._names_of_base()
        found = {
            method: [self._cell(method, instance, names) for instance in self.instances] for method in self.methods
        }
        cells = [cell for row in self._without_equals(found).values() for cell in row if cell is not None]
        file = self.written.file
        known = list(dict.fromkeys(cell.method for cell in cells))
        if not self.problems:
            self._check_runs(cells)
            self._check_names(known)
        self._raise()
        reference = file.reference or (known[0] if len(known) > 1 else None)
        tuning = dict(file.tuning) or None
        return Cells(file.name, tuple(cells), reference, file.comparisons, file.force, file.jobs, tuning)

    def _names_of_base(self) -> Mapping[str, str]:
        """The components of the base with what is common to all cells; empty where that is no whole config."""
        try:
            options = [(one.key, one.text) for one in layered([self.common, self.options], {})]
            config, _ = load_config(self.written.base, options, self.registry, self.plugins)
        except ConfigError:
            return {}
        sections = ("data", "family", "parameterization", "optimizer", "objective")
        return {section: getattr(config, section).name for section in sections}

    def _cell(self, method: Method, instance: Instance, names: Mapping[str, str]) -> Cell | None:
        twice = {one.key: one for layer in method.layers for one in layer}.keys() & {one.key for one in instance.layer}
        for key in sorted(twice):
            self._problem(method.written, f"{key} is a key of [instances]; give it in one place", method.label)
        entries = layered([self.common, *method.layers, instance.layer, self.options], names)
        overrides = tuple((one.key, one.text) for one in entries)
        try:
            config, _ = load_config(self.written.base, overrides, self.registry, self.plugins)
        except ConfigError as error:
            self.problems += [self._relocated(problem, entries) for problem in error.problems]
            return None
        train_seed = getattr(config.train, "seed", None)
        alone = f"seed={config.seed}" if train_seed is None else f"train.seed={train_seed}"
        return Cell(
            method.name or config.optimizer.name,
            instance.name or alone,
            self.written.base,
            overrides,
            self.plugins,
            config,
        )

    def _relocated(self, problem: Problem, entries: Sequence[Entry]) -> Problem:
        """A problem of a cell's config, with the line of the comparison that it comes from."""
        for one in entries:
            if problem.where == f"--set {one.key}={one.text}" and one.written:
                name = f"{one.owner}: {problem.key or one.key}"
                return self.written.problem(one.written, problem.text, name)
        return problem

    def _without_equals(self, found: Mapping[Method, list[Cell | None]]) -> dict[Method, list[Cell | None]]:
        """Without the values of a sweep that are those of the method it goes around."""
        kept: dict[Method, list[Cell | None]] = {}
        for method, row in found.items():
            around = found[method.parent] if method.parent is not None else [None] * len(row)
            if not row or not all(_equal(*pair) for pair in zip(row, around, strict=True)):
                kept[method] = row
        return kept

    def _check_runs(self, cells: Sequence[Cell]) -> None:
        """No run may be two cells."""
        first: dict[Path, Cell] = {}
        for cell in cells:
            other = first.setdefault(cell.folder, cell)
            if other is cell:
                continue
            a, b = (f"{one.method} ({one.instance})" for one in (other, cell))
            if other.config.budget != cell.config.budget:
                text = (
                    f"{a} and {b} are the same run with another budget, which a run has one of. Compare at the largest "
                    f"budget: the curve over evaluations shows the smaller ones (report.curve)"
                )
            else:
                text = f"{a} and {b} resolve to the same run {cell.folder}. Remove one, or give it another setting"
            self._problem(self._written(cell), text, f"method {cell.method!r}")

    def _written(self, cell: Cell) -> tuple[str, ...]:
        return next((method.written for method in self.methods if method.name == cell.method), ())

    def _check_names(self, known: Sequence[str]) -> None:
        file = self.written.file
        names = f"no method is called {{!r}}; the methods are {', '.join(known)}"
        if file.reference is not None and file.reference not in known:
            self._problem(("reference",), names.format(file.reference))
        for name in file.tuning.keys() - {*known}:
            self._problem(("tuning", name), names.format(name))
        for pair in file.comparisons or ():
            for name in pair:
                if name not in known:
                    self._problem(("comparisons",), names.format(name))
            if pair[0] == pair[1]:
                self._problem(("comparisons",), f"compares {pair[0]!r} with itself")

    def _problem(self, key: tuple[str, ...], text: str, name: str | None = None) -> None:
        self.problems.append(self.written.problem(key, text, name))

    def _raise(self) -> None:
        if self.problems:
            raise ConfigError(sorted(dict.fromkeys(self.problems), key=_order))


def _equal(one: Cell | None, other: Cell | None) -> bool:
    """Whether two cells are the same run with the same budget."""
    if one is None or other is None:
        return False
    return (one.folder, one.config.budget) == (other.folder, other.config.budget)


def _order(problem: Problem) -> tuple[bool, int]:
    line = problem.where.rpartition(":")[2]
    return problem.where.startswith("--"), int(line) if line.isdigit() else 0


def _registries() -> Callable[[Sequence[Path]], Registry]:
    """A loader of plugins that loads each set of single files once."""
    loaded: dict[tuple[Path, ...], Registry] = {}

    def load(files: Sequence[Path]) -> Registry:
        key = tuple(files)
        if key not in loaded:
            loaded[key] = load_plugins(files).registry
        return loaded[key]

    return load
