"""Running cells: order, jobs, stops, failures and what is left behind, with a stand-in for ``wsopt run``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from wsopt.compare import Cell, Cells, Failure, Row, Watched, is_finished
from wsopt.compare._child import log_names
from wsopt.compare._manifest import Manifest
from wsopt.compare._runner import Runner
from wsopt.config import Config
from wsopt.errors import InputError, Interrupted

PROGRAM = r"""
import json, pathlib, signal, sys, time
options = dict(word.split("=", 1) for word in sys.argv[4::2])
folder, mode, budget = pathlib.Path(options["folder"]), options["mode"], int(options["budget"])
events = folder.parent / "events"

def note(word):
    with events.open("a") as file:
        file.write(f"{word} {folder.name}\n")

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append("stop"))
signal.signal(signal.SIGINT, lambda *_: sys.exit(130) if mode != "deaf" else None)
note("start")
if mode == "busy" and not (folder / "tried").exists():
    folder.mkdir(parents=True)
    (folder / "tried").touch()
    print(f"error: {folder} is in use by another process. Wait for it.", file=sys.stderr)
    sys.exit(4)
if mode == "broken":
    print("noise\nerror: it broke\n  for a reason\n", file=sys.stderr)
    sys.exit(1)
if mode == "shot":
    import os
    print("nearly", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
while mode == "trains" and "start c" not in events.read_text():
    time.sleep(0.01)
folder.mkdir(parents=True, exist_ok=True)
note("begun")
with (folder / "journal.jsonl").open("a") as journal:
    def write(event):
        journal.write(json.dumps(event, separators=(",", ":")) + "\n")
        journal.flush()
    done = 0
    while done < budget or mode in ("endless", "stubborn", "deaf"):
        if done < budget:
            done += 1
            write({"event": "told", "id": done, "loss": 10.0 - done, "value": 10.0 - done, "samples": 1})
        if asked and mode not in ("stubborn", "deaf"):
            sys.exit(130)
        time.sleep(0.01)
    (folder / "results.json").write_text(json.dumps({"budget": budget}))
    write({"event": "finished", "evaluations": budget})
note("end")
"""


@dataclass(frozen=True, eq=False)
class FakeConfig:
    run_folder: Path
    budget: int
    training: Path | None

    @property
    def train(self) -> object:
        return self.training

    @property
    def training_folder(self) -> Path | None:
        return self.training

    @property
    def checkpoints(self) -> FakeConfig:
        return self

    @property
    def path(self) -> None:
        return None

    def run_hash(self) -> str:
        return self.run_folder.name


@dataclass
class Seen:
    """A watch that keeps what it is shown, and asks for a stop when `until` says so."""

    until: Callable[[Seen], bool] = lambda seen: False
    lines: list[str] = field(default_factory=list)
    shown: list[tuple[list[Row], int, int]] = field(default_factory=list)
    raises: bool = False
    _asked: bool = False

    def line(self, text: str) -> None:
        self.lines.append(text)

    def show(self, rows: Sequence[Row], done: int, total: int) -> None:
        self.shown.append((list(rows), done, total))
        if self.raises and self._asked and rows:
            raise KeyboardInterrupt

    def should_stop(self) -> bool:
        self._asked = self._asked or self.until(self)
        return self._asked


def cell(folder: Path, name: str, mode: str = "ok", budget: int = 3, training: Path | None = None) -> Cell:
    config = FakeConfig(folder / name, budget, training)
    options = (("folder", str(folder / name)), ("mode", mode), ("budget", str(budget)))
    return Cell(name, "seed=0", Path("base.toml"), options, (), cast(Config, config))


def run(folder: Path, cells: Sequence[Cell], watch: Seen, jobs: int = 1, patience: float = 5.0) -> list[Failure]:
    (folder / "wsopt.py").write_text(PROGRAM)
    every = Cells("toys", tuple(cells), None, None, (), jobs)
    manifest = Manifest(folder / "out", every, Path("toys.toml"), "wsopt compare toys.toml")
    program = (sys.executable, "-S", "-E", str(folder / "wsopt.py"))
    runner = Runner(every, folder / "out" / "logs", manifest, watch, 0.02, 0.1, program=program, patience=patience)
    return runner.run()


def events(folder: Path) -> list[str]:
    return (folder / "events").read_text().splitlines()


def manifest(folder: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((folder / "out" / "manifest.json").read_text())
    return found


def states(folder: Path) -> dict[object, object]:
    return {entry["method"]: entry["state"] for entry in manifest(folder)["cells"]}


def begun(count: int) -> Callable[[Seen], bool]:
    """Until so many evaluations are seen in every running cell."""
    return lambda seen: bool(
        seen.shown and seen.shown[-1][0] and all(row.evaluations >= count for row in seen.shown[-1][0])
    )


def test_cells_run_in_order_and_are_watched(tmp_path: Path) -> None:
    watch = Seen()
    assert run(tmp_path, [cell(tmp_path, "a", budget=9), cell(tmp_path, "b")], watch) == []
    assert [line.split()[1] for line in events(tmp_path) if line.startswith("start")] == ["a", "b"]
    assert states(tmp_path) == {"a": "done", "b": "done"}
    assert max(len(rows) for rows, _, _ in watch.shown) == 1
    dones = [done for _, done, _ in watch.shown]
    assert dones == sorted(dones)
    assert {total for _, _, total in watch.shown} == {12}
    assert any(row.best is not None and row.best < 10 for rows, _, _ in watch.shown for row in rows)
    assert "finished  a (seed=0): 9 evaluations, best 1, " in "\n".join(watch.lines)
    log = (tmp_path / "out" / "logs" / "a--seed=0.log").read_text()
    assert log.startswith("$ wsopt run base.toml --set ")


def test_as_many_at_a_time_as_jobs(tmp_path: Path) -> None:
    watch = Seen()
    run(tmp_path, [cell(tmp_path, name, budget=10) for name in "abc"], watch, jobs=2)
    assert max(len(rows) for rows, _, _ in watch.shown) == 2
    starts = [line for line in events(tmp_path) if not line.startswith("begun")]
    assert starts.index("start c") > min(starts.index("end a"), starts.index("end b"))


def test_finished_cells_are_kept(tmp_path: Path) -> None:
    both = [cell(tmp_path, "a"), cell(tmp_path, "b")]
    run(tmp_path, both[:1], Seen())
    watch = Seen()
    run(tmp_path, both, watch)
    assert events(tmp_path).count("start a") == 1
    assert watch.lines[0] == "1 of 2 runs are finished already"
    # A larger budget is another run of the same folder.
    run(tmp_path, [cell(tmp_path, "a", budget=5)], Seen())
    assert events(tmp_path).count("start a") == 2


def test_one_trains_while_the_others_of_the_same_checkpoints_wait(tmp_path: Path) -> None:
    shared = tmp_path / "trained"
    cells = [cell(tmp_path, name, "trains", training=shared) for name in "ab"] + [cell(tmp_path, "c")]
    run(tmp_path, cells, Seen(), jobs=3)
    order = events(tmp_path)
    assert order.index("begun a") < order.index("start b")
    assert order.index("start c") < order.index("begun a")


def test_a_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    watch = Seen()
    failures = run(tmp_path, [cell(tmp_path, "a", "broken"), cell(tmp_path, "b", "shot"), cell(tmp_path, "c")], watch)
    assert [(one.cell.method, one.code, one.message) for one in failures] == [
        ("a", 1, "it broke\n  for a reason"),
        ("b", -9, "ended by signal 9; its last words: nearly"),
    ]
    assert states(tmp_path) == {"a": "failed", "b": "failed", "c": "done"}
    assert manifest(tmp_path)["cells"][0]["message"] == "it broke\n  for a reason"


def test_a_folder_in_use_is_waited_for(tmp_path: Path) -> None:
    watch = Seen()
    assert run(tmp_path, [cell(tmp_path, "a", "busy"), cell(tmp_path, "b")], watch) == []
    assert [line for line in events(tmp_path) if line.startswith("start")] == ["start a", "start b", "start a"]
    assert [line for line in watch.lines if line.startswith("waiting")] == [
        f"waiting   a (seed=0): {tmp_path / 'a'} is in use by another process"
    ]


def test_a_stop_lets_the_trial_finish_and_the_next_command_goes_on(tmp_path: Path) -> None:
    cells = [cell(tmp_path, "a", "endless", budget=5), cell(tmp_path, "b")]
    with pytest.raises(Interrupted, match="stopped with 0 of 2 runs finished; nothing is lost"):
        run(tmp_path, cells, Seen(begun(2)))
    assert states(tmp_path) == {"a": "stopped", "b": "waiting"}
    assert "start b" not in events(tmp_path)
    watch = Seen()
    run(tmp_path, [cell(tmp_path, "a", "ok", budget=5), cells[1]], watch)
    assert states(tmp_path) == {"a": "done", "b": "done"}
    assert any(line.startswith("started   a (seed=0) goes on after ") for line in watch.lines)


@pytest.mark.parametrize("mode", ["stubborn", "deaf"])
def test_a_second_stop_leaves_no_process_behind(tmp_path: Path, mode: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [cell(tmp_path, "a", mode)], Seen(begun(1), raises=True), patience=0.2)
    with pytest.raises(ChildProcessError):  # no child, and no zombie
        os.waitpid(-1, os.WNOHANG)


def test_the_manifest_never_forgets_a_configuration(tmp_path: Path) -> None:
    run(tmp_path, [cell(tmp_path, "a"), cell(tmp_path, "b")], Seen())
    run(tmp_path, [cell(tmp_path, "b"), cell(tmp_path, "c", "broken")], Seen())
    assert [(entry["method"], entry["times"]) for entry in manifest(tmp_path)["tried"]] == [
        ("a", 1),
        ("b", 2),
        ("c", 1),
    ]
    assert states(tmp_path) == {"b": "done", "c": "failed"}
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is no manifest of a comparison"):
        run(tmp_path, [cell(tmp_path, "a")], Seen())
    assert (tmp_path / "out" / "manifest.json").read_text() == "{}"


def test_logs_have_names_of_their_own(tmp_path: Path) -> None:
    names = log_names([cell(tmp_path / "1", "a b/ü"), cell(tmp_path / "2", "a b\\ü"), cell(tmp_path / "3", "x = 0.5")])
    assert list(names.values()) == ["a-b---seed=0.log", "a-b---seed=0_.log", "x-=-0.5--seed=0.log"]


# ---- what a folder says


def write(folder: Path, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "journal.jsonl").open("a") as file:
        file.write("".join(lines))


def test_a_folder_is_read_bit_by_bit(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run")
    watched.look()
    assert (watched.begun, watched.evaluations, watched.best) == (False, 0, None)
    write(tmp_path / "run", '{"event":"baseline","name":"last","kind":"coefficients","value":5.0}\n')
    write(tmp_path / "run", '{"event":"baseline","name":"ema","kind":"weights","value":9.0}\n{"event":"asked","ids":[')
    watched.look()
    assert (watched.begun, watched.evaluations, watched.best) == (True, 2, None)
    write(
        tmp_path / "run",
        '0]}\n{"event":"told","id":0,"loss":-6.0,"value":6.0}\n{"event":"told","id":1,"failure":"x"}\n',
    )
    watched.look()
    assert (watched.evaluations, watched.best) == (4, 6.0)  # maximised; the EMA's weights are no combination
    (tmp_path / "run" / "journal.jsonl").write_text('{"event":"told","id":0,"loss":-7.0,"value":7.0}\n')
    watched.look()
    assert (watched.evaluations, watched.best) == (1, 7.0)


def test_when_a_folder_is_finished(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    assert not is_finished(run_folder, 3)
    write(run_folder, '{"event":"told","id":0}\n')
    (run_folder / "results.json").write_text('{"budget": 3}')
    assert not is_finished(run_folder, 3)
    write(run_folder, '{"event":"finished","evaluations":3}')
    assert not is_finished(run_folder, 3)
    write(run_folder, "\n")
    assert is_finished(run_folder, 3)
    (run_folder / "results.json").write_text('{"budget": 3, "evaluations": 3}')
    assert not is_finished(run_folder, 4)
    (run_folder / "results.json").write_text('{"budget": 3, "evaluations": 2}')  # the search ended by itself
    assert is_finished(run_folder, 4)
    assert not is_finished(run_folder, 2)
    (run_folder / "results.json").write_text("{")
    assert not is_finished(run_folder, 3)
