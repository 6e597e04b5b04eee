"""What an override that names another component leaves out of the file: the keys of the former one."""

from __future__ import annotations

from dataclasses import dataclass

from wsopt.config._auto import AUTO
from wsopt.config._source import Source
from wsopt.config._vocabulary import COMPONENTS, own_keys
from wsopt.errors import PluginError, UnknownNameError
from wsopt.registry import Kind, Registry


@dataclass(frozen=True)
class LeftOut:
    """Keys of the file that belong to a component which an override replaced by another.

    Args:
        override: the override's key, ``optimizer.name``.
        former: the component that the file names, or that is taken where it names none.
        keys: what is left out of its section, and ``[train]`` where the model family is another one.
    """

    override: str
    former: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return f"leaves out {', '.join(self.keys)} of {self.former}"


def leave_out_former(source: Source, registry: Registry) -> list[LeftOut]:
    """Take the keys of replaced components out of the file's part of `source`; what other overrides set stays."""
    found = []
    for section, (kind, default) in COMPONENTS.items():
        table = source.written(section)
        former, new = table.get("name", default), source.replaced(section)
        # Nothing belongs to "auto", which takes no keys.
        if not isinstance(former, str) or not isinstance(new, str) or former == AUTO:
            continue
        if _address(registry, kind, former) == _address(registry, kind, new):
            continue
        # The parts of an objective are its own, though every [objective] has the key.
        keys = [key for key in table if key not in own_keys(section) or key == "parts"]
        source.leave_out(section, keys)
        if section == "family" and source.writes("train"):
            source.leave_out("train")
            keys.append("[train]")
        if keys:
            found.append(LeftOut(f"{section}.name", former, tuple(keys)))
    return found


def _address(registry: Registry, kind: Kind, name: str) -> str:
    """One name for a component that has two, bare and with its plugin."""
    try:
        return registry.get(kind, name).address
    except (UnknownNameError, PluginError):
        return name
