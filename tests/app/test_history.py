"""History: the same record however and whenever the file is read, and only what counts now."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabs_workspace import epoch

from app.history import History, Record
from segcore.events import Event, InterventionEvent, NoteEvent, ResumeEvent, StageEvent


def line(event: Event) -> bytes:
    return event.model_dump_json().encode() + b"\n"


def write(folder: Path, *events: Event) -> None:
    with (folder / "events.jsonl").open("ab") as stream:
        stream.write(b"".join(line(event) for event in events))


def numbers(record: Record) -> list[int]:
    return [event.epoch for event in record.epochs]


def intervention(number: int, after: int) -> InterventionEvent:
    return InterventionEvent(epoch=after, number=number, what="flat", text="The loss does not move.")


EVENTS = st.lists(
    st.one_of(
        st.builds(epoch, st.integers(1, 9), st.floats(0, 1)),
        st.builds(lambda after: ResumeEvent(epoch=after, step=after), st.integers(0, 9)),
        st.builds(intervention, st.integers(1, 3), st.integers(0, 9)),
        st.builds(lambda text: StageEvent(text=text), st.sampled_from(["reading", "training"])),
        st.builds(lambda text: NoteEvent(text=text), st.text(max_size=5)),
    ),
    max_size=12,
)


@given(events=EVENTS, cuts=st.lists(st.integers(0, 4000), max_size=4))
def test_reading_in_pieces_equals_reading_at_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    content = b"".join(map(line, events))
    history = History()
    path = folder / "events.jsonl"
    path.touch()
    done = 0
    for cut in [*sorted(cuts), len(content)]:
        with path.open("ab") as stream:  # may end in the middle of a line
            stream.write(content[done:cut])
        done = max(done, min(cut, len(content)))
        history.read(folder)
    assert history.read(folder) == History().read(folder)


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    history = History()
    write(tmp_path, epoch(1, 0.1), epoch(2, 0.2), intervention(1, 2), epoch(3, 0.3), intervention(2, 3))
    assert numbers(history.read(tmp_path)) == [1, 2, 3]
    write(tmp_path, ResumeEvent(epoch=2, step=20))
    record = history.read(tmp_path)
    assert numbers(record) == [1, 2]
    assert [one.number for one in record.interventions] == [1]
    assert [one.epoch for one in record.resumes] == [2]
    write(tmp_path, epoch(3, 0.9), epoch(3, 0.5), epoch(4, 0.6))
    assert [event.val_dice for event in history.read(tmp_path).epochs] == [0.1, 0.2, 0.5, 0.6]


@pytest.mark.parametrize("longer", [False, True])
def test_a_file_that_was_replaced_is_read_again(tmp_path: Path, longer: bool) -> None:
    history = History()
    write(tmp_path, epoch(1, 0.1), epoch(2, 0.2))
    history.read(tmp_path)
    new = [epoch(7, 0.7)] * (6 if longer else 1)
    (tmp_path / "new").write_bytes(b"".join(map(line, new)))
    os.replace(tmp_path / "new", tmp_path / "events.jsonl")
    assert numbers(history.read(tmp_path)) == [7]


@pytest.mark.parametrize("longer", [False, True])
def test_a_file_that_was_cut_or_written_anew_in_place_is_read_again(tmp_path: Path, longer: bool) -> None:
    history = History()
    path = tmp_path / "events.jsonl"
    write(tmp_path, epoch(1, 0.1), epoch(2, 0.2))
    history.read(tmp_path)
    path.write_bytes(b"".join(map(line, [epoch(8, 0.8)] * (9 if longer else 1))))
    assert numbers(history.read(tmp_path)) == [8]


def test_damaged_lines_are_missing_and_the_rest_is_there(tmp_path: Path) -> None:
    write(tmp_path, epoch(1, 0.1))
    with (tmp_path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "epoch", "epo\xff\x00\n[]\nnull\n{"kind": "from the future"}\n')
    write(tmp_path, epoch(4, 0.4))
    record = History().read(tmp_path)
    assert numbers(record) == [1, 4]
    assert record.missing == [2, 3]
    assert record.whole


def test_a_run_without_a_file_is_said_to_be_so_and_comes_back(tmp_path: Path) -> None:
    history = History()
    assert history.read(tmp_path) == Record(whole=False)
    write(tmp_path, epoch(1, 0.1))
    assert numbers(history.read(tmp_path)) == [1]
    (tmp_path / "events.jsonl").unlink()
    assert not history.read(tmp_path).whole


def test_only_new_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segcore.jobs import journal

    parsed = []
    real = journal.parse_event
    monkeypatch.setattr(journal, "parse_event", lambda text: parsed.append(text) or real(text))
    history = History()
    write(tmp_path, *(epoch(number, 0.5) for number in range(1, 101)))
    first = history.read(tmp_path)
    assert len(parsed) == 100
    assert history.read(tmp_path) is first
    write(tmp_path, epoch(101, 0.5))
    assert len(history.read(tmp_path).epochs) == 101
    assert len(parsed) == 101


def test_a_run_that_was_dropped_from_memory_is_read_again(tmp_path: Path) -> None:
    history = History(runs=2)
    folders = [tmp_path / name for name in "abc"]
    for number, folder in enumerate(folders, start=1):
        folder.mkdir()
        write(folder, epoch(number, 0.5))
    for _ in range(2):
        assert [numbers(history.read(folder)) for folder in folders] == [[1], [2], [3]]


def test_many_threads_see_every_epoch_once(tmp_path: Path) -> None:
    history = History(runs=1)
    count, wrong = 300, []
    write(tmp_path, epoch(1, 0.5))

    def look() -> None:
        seen = 0
        while seen < count:
            found = numbers(history.read(tmp_path))
            if found != list(range(1, len(found) + 1)) or len(found) < seen:
                wrong.append(found)
                return
            seen = len(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, count + 1):
        write(tmp_path, epoch(number, 0.5))
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert numbers(history.read(tmp_path)) == list(range(1, count + 1))
