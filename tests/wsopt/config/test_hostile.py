"""Values out of bounds, dates, hostile TOML and outputs that cannot be: one problem each, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from pydantic import BaseModel

from wsopt.config import Config, load_config
from wsopt.config._messages import validate
from wsopt.errors import ConfigError
from wsopt.registry import Registry


class Loader:
    """Loads texts with one registry; `problems` gives the lines of the error, with the file's folder left out."""

    def __init__(self, write: Callable[[str], Path], registry: Registry) -> None:
        self.write = write
        self.registry = registry

    def load(self, text: str, *overrides: tuple[str, str]) -> Config:
        return load_config(self.write(text), overrides, lambda files: self.registry)[0]

    def problems(self, text: str, *overrides: tuple[str, str]) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, *overrides)
        return str(caught.value).replace(f"{self.write(text).parent}/", "").splitlines()


@pytest.fixture
def loader(write: Callable[[str], Path], registry: Registry) -> Loader:
    return Loader(write, registry)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("threads", "1025", "must be at most 1024, not 1025"),
        ("optimizer", '{ name = "lcsc", mutation_scale = 2e6 }', "must be at most 1000000, not 2000000.0"),
        ("baselines.power_widths", "[0.0005]", "must be at least 0.001, not 0.0005"),
        ("baselines.power_widths", "[0.1, 0.10000001]", "names '0.1' twice"),
        ("baselines.ema_rates", "[0.9, 0.900000000001]", "names '0.9' twice"),
        ("checkpoints.path", '""', "must be a path, not ''"),
        ("baselines.runs", '["a", ""]', "must be a path, not ''"),
        ("baselines.runs", '["a\\u0000b"]', "must be a path, not 'a\\x00b'"),
        ("plugins", '["a\\u0000b"]', "must be a path, not 'a\\x00b'"),
        ("output", '"a\\u0000b"', "must be a path, not 'a\\x00b'"),
        ("name", "2020-01-01", "must be text in quotes, not 2020-01-01"),
        ("checkpoints.path", "2020-01-01", "must be text in quotes, not 2020-01-01"),
        ("budget", "07:00:00", "must be a whole number, not 07:00:00"),
        ("family.network", "2020-01-01", "must be a section of its own, not 2020-01-01"),
        ("budget", "9" * 5000, "must be a whole number, not "),
        ("budget", f"0x{'f' * 5000}", "must be a whole number, not '0xfff"),
        ("budget", "[" * 200 + "]" * 200, "is nested more than 100 levels deep"),
        (".".join("a" * 200), "1", "is nested more than 100 levels deep"),
    ],
)
def test_values_out_of_bounds(loader: Loader, minimal: str, key: str, value: str, said: str) -> None:
    problems = loader.problems(minimal, (key, value))
    assert len(problems) == 1
    assert said in problems[0]
    assert problems[0].startswith(f"--set {key}=")


def test_a_date_where_one_is_wanted() -> None:
    class Dated(BaseModel):
        day: date

    assert validate(Dated, {"day": date(2020, 1, 2)}) == (Dated(day=date(2020, 1, 2)), [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"budget = {'9' * 5000}", "has a number with thousands of digits"),
        (f"budget = 0x{'f' * 5000}", "has a number with thousands of digits"),
        (f"a = {'[' * 5000}{']' * 5000}", "is nested more than 100 levels deep"),
        (f"{'.'.join('a' * 3000)} = 1", "is nested more than 100 levels deep"),
    ],
)
def test_toml_that_is_too_much_for_a_reader(loader: Loader, text: str, said: str) -> None:
    assert loader.problems(text) == [f"c.toml: {said}"]


def test_a_user_that_does_not_exist(loader: Loader, minimal: str) -> None:
    config = loader.load(minimal, ("checkpoints.path", "~no_such_user/x"))
    assert config.checkpoints.path == Path.cwd() / "~no_such_user" / "x"


def test_a_byte_order_mark_is_passed_over(loader: Loader, minimal: str, tmp_path: Path) -> None:
    path = tmp_path / "bom.toml"
    path.write_text(minimal, encoding="utf-8-sig")
    config, source = load_config(path, (), lambda files: loader.registry)
    assert (config.name, source) == ("tiny", minimal)


def test_an_output_that_cannot_be_a_folder(loader: Loader, minimal: str, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    for output in (taken, taken / "below" / "it"):
        assert loader.problems(minimal, ("output", str(output)))[0].endswith(
            "taken is not a folder; give a folder that is there or can be made"
        )
    assert "cannot be used" in loader.problems(minimal, ("output", "a" * 5000))[0]
    assert loader.load(minimal, ("output", str(tmp_path / "new" / "folder"))).output == tmp_path / "new" / "folder"
