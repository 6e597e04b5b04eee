"""Loading a config: core sections first, then each component's, every problem of both reported at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from wsopt.config._auto import AUTO, auto_optimizer, with_coordinates
from wsopt.config._config import ComponentConfig, Config, ObjectiveConfig, PluginFile, ReportConfig
from wsopt.config._former import LeftOut, leave_out_former
from wsopt.config._locate import Key
from wsopt.config._measures import Measures, check_columns
from wsopt.config._messages import Mistake, model_keys, show, validate
from wsopt.config._source import Source, expanded
from wsopt.config._vocabulary import COMPONENTS, SECTIONS, Vocabulary, inner_model, own_keys
from wsopt.config.params import FunctionRef, NoParams
from wsopt.config.sections import PLAIN, SPLITS, Section, TopSection
from wsopt.errors import ConfigError, PluginError, Problem, UnknownNameError
from wsopt.registry import LABELS, Component, Kind, Registry, did_you_mean

RegistryLoader = Callable[[Sequence[Path]], Registry]
Model = TypeVar("Model", bound=BaseModel)


def load_config(
    path: str | Path,
    overrides: Sequence[tuple[str, str]] = (),
    registry_loader: RegistryLoader | None = None,
    plugins: Sequence[str | Path] = (),
    left_out: Callable[[LeftOut], object] | None = None,
) -> tuple[Config, str]:
    """Read, override, validate and resolve a config file.

    An override that names another component than the file leaves out the file's keys of the former one (and its
    ``[train]``, where it is the model family); the order of overrides of different keys does not matter.

    Args:
        path: the TOML file. Relative paths in it start from its folder, except `output`.
        overrides: pairs of dotted key and value text, as given to ``--set``. The text is read as a TOML value and,
            where it is none, as plain text; paths start from the current directory.
        registry_loader: loads the plugins, given the single files among them; None takes the installed ones.
        plugins: single-file plugins besides the config's own.
        left_out: told what overrides that name another component left out of the file.

    Returns:
        The config, and the file's text as it was read.

    Raises:
        InputError: where the file cannot be read.
        ConfigError: with every problem found, unknown component names included.
        PluginError: where a name is unknown that a broken plugin may have had; the other problems follow in its text.
    """
    source = Source.read(Path(path), overrides)
    loader = _Loader(source, registry_loader or _installed, plugins)
    config = loader.load()
    if left_out is not None:
        for one in loader.left_out:
            left_out(one)
    return config, source.text


def _installed(files: Sequence[Path]) -> Registry:
    from wsopt.plugin_manager import load_plugins

    return load_plugins(files).registry


def _is_there(path: Path) -> bool:
    """Whether something has this name, a dangling link included; OSError where that cannot be told."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _can_be_path(text: object) -> bool:
    return isinstance(text, str) and text != "" and "\0" not in text


def _asking(about: str) -> str:
    """To give what a key's description is about."""
    return f"say {about}" if about.startswith(("whether ", "what ")) else f"give the {about.removeprefix('the ')}"


class _Loader:
    """One loading: collects problems while sections are validated, and raises them together at the end."""

    def __init__(self, source: Source, registry_loader: RegistryLoader, plugins: Sequence[str | Path]) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.plugin_failed = False
        self.plugins = self._plugin_files(source.values.get("plugins"), plugins)
        self.registry = registry_loader([plugin.path for plugin in self.plugins])
        self.left_out = leave_out_former(source, self.registry)
        self.problems += source.problems
        self.tables = {name: self._table(name) for name in SECTIONS}
        self._name_optimizer()
        self.found = {section: self._find(section, kind, name) for section, (kind, name) in COMPONENTS.items()}
        self.vocabulary = Vocabulary(self.found)
        self.functions: dict[Path, PluginFile] = {}

    def load(self) -> Config:
        raw = self.source.values
        top = self.model(TopSection, (), {key: raw[key] for key in raw if key not in SECTIONS})
        plain = {name: self.model(model, (name,), self.tables[name]) for name, model in PLAIN.items()}
        params = {section: self._params(section) for section in COMPONENTS}
        measures = Measures(self)
        objective = measures.objective(params["objective"])
        train = self._train()
        values: dict[str, Any] = plain | {"train": train}
        for section in COMPONENTS:
            component, model = self.found[section], params[section]
            if component is not None and model is not None and section != "objective":
                located = self.located(self._concrete(model), (section,))
                values[section] = ComponentConfig(name=component.address, params=located)
        values["objective"] = objective
        self._check_source_of_checkpoints()
        self._check_paths(("plugins",), raw.get("plugins"))
        self._check_paths(("baselines", "runs"), self.tables["baselines"].get("runs"))
        if top is not None:
            self._check_output(top.output)
        if plain["report"] is not None:
            values["report"] = self._report(plain["report"], objective, measures)
        if plain["validation"] is not None:
            values["validation"] = self._validation(plain["validation"], measures)
        values["features"] = measures.features
        self._check_unused_features(measures)
        self._check_samples(plain["search"], plain["report"])
        self._raise()
        paths: dict[str, Any] = {
            key: self._with_folders(key, values[key]) for key in ("checkpoints", "weightspace", "baselines")
        }
        paths["plugins"] = self.plugins
        paths["functions"] = tuple(self.functions.values())
        return Config(**{**dict(top or ()), **values, **paths})

    # ---- sections

    def _table(self, name: str) -> dict[str, Any]:
        table = self.source.values.get(name, {})
        if isinstance(table, dict):
            return table
        self.problem((name,), f"must be a section [{name}], not {show(table)}")
        return {}

    def model(self, model: type[Model], at: Key, raw: Mapping[str, Any], what: str = "") -> Model | None:
        """Validate a section; a list of its mistakes goes to the problems."""
        found, mistakes = validate(model, raw)
        for mistake in mistakes:
            self.problem((*at, *mistake.key), self._words(model, at, mistake, what))
        return found if isinstance(found, model) else None

    def _words(self, model: type[BaseModel], at: Key, mistake: Mistake, what: str) -> str:
        last = str(mistake.key[-1]) if mistake.key else ""
        inner = inner_model(model, mistake.key[:-1])
        if inner is None:
            return mistake.text
        if mistake.unknown:
            return f"unknown key{what}; {self.vocabulary.suggest(last, (*at, *mistake.key[:-1]), inner)}"
        if mistake.text == "missing":
            about = inner.model_fields[last].description if last in inner.model_fields else None
            return f"missing: {_asking(about)}" if about else "missing"
        return mistake.text

    # ---- components

    def _name_optimizer(self) -> None:
        """Put the optimizer that ``auto`` stands for in its place."""
        table = self.tables["optimizer"]
        if table.get("name", AUTO) != AUTO:
            return
        for key in table.keys() - {"name"}:
            known = [repr(one.address) for one in self.registry.all("optimizer") if key in model_keys(one.params)]
            named = f", as in optimizer.name = {' or '.join(known)}" if known else ""
            self.problem(("optimizer", key), f"optimizer {AUTO!r} takes no keys; name the optimizer to set its{named}")
        self.tables["optimizer"] = auto_optimizer()

    def _find(self, section: str, kind: Kind, default: str | None) -> Component | None:
        if not isinstance(self.source.values.get(section, {}), dict):
            return None
        name = self.tables[section].get("name", default)
        key = (section, "name")
        if name is None:
            known = ", ".join(component.address for component in self.registry.all(kind)) or "none is installed"
            self.problem(key, f"missing: give the name of a {LABELS[kind]} (known: {known})")
        elif not isinstance(name, str):
            self.problem(key, f"must be text in quotes, not {show(name)}")
        else:
            return self.get(kind, name, key)
        return None

    def get(self, kind: Kind, name: str, key: Key) -> Component | None:
        try:
            return self.registry.get(kind, name)
        except UnknownNameError as error:
            self.problem(key, str(error))
        except PluginError as error:
            self.plugin_failed = True
            self.problem(key, str(error))
        return None

    def _params(self, section: str) -> BaseModel | None:
        component = self.found[section]
        if component is None:
            return None
        raw = {key: value for key, value in self.tables[section].items() if key not in own_keys(section)}
        what = f" for {LABELS[component.kind]} {component.name!r}"
        return self.model(component.params or NoParams, (section,), raw, what)

    def _concrete(self, params: BaseModel) -> BaseModel:
        optimizer = self.found["optimizer"]
        return params if optimizer is None else with_coordinates(params, optimizer.address)

    def _train(self) -> BaseModel | None:
        family = self.found["family"]
        if "train" not in self.source.values or family is None:
            return None
        if family.recipe is None:
            self.problem(
                ("train",),
                f"model family {family.name!r} has no training recipe: remove the section and give checkpoints.path",
            )
            return None
        return self.model(family.recipe, ("train",), self.tables["train"], f" for training {family.name!r}")

    # ---- checks across sections

    def _check_source_of_checkpoints(self) -> None:
        if "train" not in self.source.values and not self.source.given(("checkpoints", "path")):
            text = "missing: give the folder of the checkpoints, or a [train] section that makes them"
            for one in self.left_out:
                if "[train]" in one.keys:
                    text += f" (the file's is for {one.former}; --set 'train={{}}' takes the defaults)"
            self.problem(("checkpoints", "path"), text)

    def _check_paths(self, key: Key, texts: Any) -> None:  # noqa: ANN401 - any TOML value
        for index, text in enumerate(texts if isinstance(texts, list) else ()):
            if isinstance(text, str) and not _can_be_path(text):
                self.problem((*key, index), f"must be a path, not {text!r}")

    def _check_output(self, output: Path) -> None:
        """The folder must be one, or be possible to make: whatever is there on the way to it has to be a folder."""
        path = Path.cwd() / output
        try:
            found = next(place for place in (path, *path.parents) if _is_there(place))
            if not found.is_dir():
                self.problem(("output",), f"{found} is not a folder; give a folder that is there or can be made")
        except OSError as error:
            self.problem(("output",), f"{path} cannot be used ({error.strerror}); give another folder")

    def _check_samples(self, search: Any, report: Any) -> None:  # noqa: ANN401 - sections or None
        if search is not None and report is not None and report.samples < search.samples:
            given = self.source.given(("report", "samples"))
            text = f"must be at least search.samples ({search.samples}), not {report.samples}"
            at = ("report", "samples") if given else ("search", "samples")
            where = self.source.problem(at, "").where
            self.problems.append(Problem(where, "report.samples", text))

        if search is not None and search.race and search.race[-1] >= search.samples:
            text = f"must stay below search.samples ({search.samples}), not {search.race[-1]}"
            self.problem(("search", "race"), text)

    def _check_unused_features(self, measures: Measures) -> None:
        for name in self.tables["features"]:
            if name not in measures.used:
                text = f"no objective uses these features; name them as features = {name!r}, or leave the section out"
                self.problem(("features", name), text)

    def _report(self, section: Section, objective: ObjectiveConfig | None, measures: Measures) -> ReportConfig:
        values = dict(section)
        if values["features"] is None:
            values["features"] = (objective.features,) if objective and objective.features else ()
        else:
            for index, name in enumerate(values["features"]):
                measures.name_features(name, ("report", "features", index))
        if values["references"] is None:
            values["references"] = (objective.reference,) if objective and objective.reference else ()
        else:
            texts = values["references"]
            found = [measures.reference(text, ("report", "references", at)) for at, text in enumerate(texts)]
            values["references"] = tuple(text for text in found if text is not None)
        values["metrics"] = tuple(measures.metrics(values["metrics"], objective))
        if objective is not None:
            check_columns(self.problem, objective, values["metrics"])
        return ReportConfig(**values)

    def _validation(self, section: Any, measures: Measures) -> Any:  # noqa: ANN401
        reference = measures.reference(section.reference, ("validation", "reference"))
        return section.model_copy(update={"reference": reference})

    # ---- files

    def _plugin_files(self, own: Any, more: Sequence[str | Path]) -> tuple[PluginFile, ...]:  # noqa: ANN401
        named = own if isinstance(own, list) else []
        keys: list[Key] = [("plugins", index) for index, name in enumerate(named) if _can_be_path(name)]
        paths = [(self._path(key, named[int(key[1])]), key) for key in keys]
        paths += [((Path.cwd() / expanded(path)).resolve(), None) for path in more]  # type: ignore[misc]
        files: dict[Path, PluginFile] = {}
        for path, key in paths:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                text = f"the plugin file {path} cannot be read ({error.strerror}): give the path of a Python file"
                self.problems.append(
                    Problem(f"--plugin {path}", "", text) if key is None else self.source.problem(key, text)
                )
            else:
                files[path] = PluginFile(path=path, sha256=digest)
        return tuple(files.values())

    def _with_folders(self, name: str, section: Section) -> Section:
        found: dict[str, Any] = {}
        for key, value in dict(section).items():
            if isinstance(value, Path):
                found[key] = self._path((name, key), value)
            elif isinstance(value, tuple) and any(isinstance(item, Path) for item in value):
                found[key] = tuple(self._path((name, key, index), item) for index, item in enumerate(value))
        return section.model_copy(update=found)

    def located(self, params: Model, at: Key) -> Model:
        """Parameters with every path absolute, and the files of their functions noted."""
        update: dict[str, Any] = {}
        for name in type(params).model_fields:
            value, key = getattr(params, name), (*at, name)
            if isinstance(value, FunctionRef):
                update[name] = self._function(value, key)
            elif isinstance(value, Path):
                update[name] = self._path(key, value)
            elif isinstance(value, BaseModel):
                update[name] = self.located(value, key)
        return params.model_copy(update=update) if update else params

    def _function(self, function: FunctionRef, key: Key) -> FunctionRef:
        if function.file is None:
            return function
        path = self._path(key, function.file)
        try:
            self.functions[path] = PluginFile(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as error:
            self.problem(key, f"{path} cannot be read ({error.strerror}): give the path of a Python file")
        return function.located(path)

    def file(self, at: Key, text: str) -> str | None:
        """The absolute path of an existing file, or a part of it (``FILE#clip``); a missing one becomes a problem."""
        name, mark, part = text.rpartition("#")
        for file, rest in ((text, ""), (name, mark + part)):  # a file's own name may have a #
            if self._can_stat(at, file) and (path := self._path(at, file)).is_file():
                return f"{path}{rest}"
        wanted = f"must be 'train', 'validation', 'test' or a file of reference statistics, not {text!r}"
        if self._can_stat(at, text) and (path := self._path(at, text)).is_dir():
            found = f"{path} is a folder; wsopt reference make makes a file of the images in one"
        else:
            missing = self._path(at, text) if _can_be_path(text) else "such a file"
            found = f"{did_you_mean(text, SPLITS)}{missing} does not exist"
        self.problem(at, f"{wanted}: {found}")
        return None

    def _can_stat(self, at: Key, text: str) -> bool:
        """Whether the system can look for a path of this text: it is not empty and not too long."""
        try:
            return _can_be_path(text) and _is_there(self._path(at, text))
        except OSError:
            return False

    def _path(self, key: Key, path: str | Path) -> Path:
        return (Path.cwd() / self.source.folder(key) / expanded(path)).resolve()

    # ---- problems

    def problem(self, key: Key, text: str) -> None:
        self.problems.append(self.source.problem(key, text))

    def _raise(self) -> None:
        self.problems.sort(key=self.source.order)
        if self.plugin_failed:
            raise PluginError("\n".join(str(problem) for problem in self.problems))
        if self.problems:
            raise ConfigError(self.problems)
