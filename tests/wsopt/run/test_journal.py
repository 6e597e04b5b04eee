from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsopt.errors import ResumeError
from wsopt.run._journal import Journal

EVENTS = [{"event": "told", "id": i, "loss": i / 3, "value": i / 3, "samples": 9} for i in range(5)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    journal = Journal(path)
    for event in EVENTS:
        journal.record(event)
    journal.close()
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_cut_anywhere_and_continued_it_is_the_same_file(
    data: st.DataObject, written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    path.write_bytes(written[: data.draw(st.integers(0, len(written)))])
    journal = Journal(path)
    for event in EVENTS:
        journal.record(event)
    journal.close()
    assert path.read_bytes() == written


def test_floats_come_back_exactly(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(written)
    assert Journal(path).events == EVENTS


def test_a_bad_line_in_the_middle_is_named_and_kept(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    damaged = written.replace(b'"id":1', b'"id":')
    path.write_bytes(damaged)
    with pytest.raises(ResumeError, match=r"journal\.jsonl:2: this line is no event of a journal"):
        Journal(path)
    assert path.read_bytes() == damaged


def test_a_replay_that_differs_is_refused_and_nothing_is_written(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(written)
    journal = Journal(path)
    journal.record(EVENTS[0])
    with pytest.raises(ResumeError, match=r"journal\.jsonl:2: the run cannot be replayed, loss of this 'told' event"):
        journal.record({**EVENTS[1], "loss": 0.25})
    journal.close()
    assert path.read_bytes() == written


def test_recall_takes_only_the_next_event_of_its_kind(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(written)
    journal = Journal(path)
    assert journal.recall("baseline") is None
    assert [journal.recall("told") for _ in range(6)] == [*EVENTS, None]


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"told","loss":1.0,"value":1.0,"samples":9}',
        '{"event":"told","id":[1],"value":1.0,"samples":9}',
        '{"event":"told","id":1,"value":"many","samples":9}',
        '{"event":"asked","x":[[0.0]]}',
        '{"event":"asked","ids":["a"],"x":[[0.0]]}',
        '{"event":"baseline","name":"last","kind":"coefficients"}',
        '{"event":"report","name":"best"}',
        '{"event":"surprise"}',
        "[1]",
    ],
)
def test_a_line_that_is_no_whole_event_is_named(written: bytes, tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line.encode() + b"\n" + written)
    with pytest.raises(ResumeError, match=r"journal\.jsonl:1: this line is no event"):
        Journal(path)
