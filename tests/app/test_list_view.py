"""The table and the CSV file of a run: every epoch, every number, nothing a spreadsheet stumbles over."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from tabs_workspace import epoch, make_run, make_services

from app.list_view import csv_text, table_text
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State


def test_the_csv_file_holds_every_number_exactly() -> None:
    history = [epoch(number, number / 7) for number in range(1, 6)]
    lines = list(csv.DictReader(io.StringIO(csv_text(history))))
    assert [int(line["epoch"]) for line in lines] == [1, 2, 3, 4, 5]
    for line, event in zip(lines, history, strict=True):
        for name in ("train_loss", "val_loss", "train_dice", "val_dice", "learning_rate", "seconds"):
            assert float(line[name]) == getattr(event, name)
        assert float(line["iou_255"]) == event.val_iou_per_class["255"]
        assert line["best"] == "1"
        assert line["time"].endswith("+00:00")


def test_what_is_no_number_is_empty_in_the_csv_file() -> None:
    (line,) = csv.DictReader(io.StringIO(csv_text([epoch(1, math.nan)])))
    assert line["val_dice"] == ""
    assert "nan" not in csv_text([epoch(1, math.nan)]).lower()


def test_the_table_has_the_newest_epoch_first_and_the_best_marked(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (0.2, 0.6, 0.4))
    table = json.loads(table_text(services.job(job.id)))
    assert table["run"] == job.id
    assert [row[0] for row in table["rows"]] == [3, 2, 1]
    assert table["best"] == 2
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert table["rows"][1][table["columns"].index("Dice, validation")] == 0.6
    assert "Dice, 255 cell" in table["columns"]


def test_a_run_without_epochs_has_an_empty_table(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (), State.QUEUED)
    assert json.loads(table_text(services.job(job.id)))["rows"] == []
    assert json.loads(table_text(None))["rows"] == []


def test_a_number_that_is_not_finite_does_not_break_the_table(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (0.2,), State.RUNNING)
    FolderReporter(job.folder)(epoch(2, math.nan, best=False))
    text = table_text(services.job(job.id))
    table = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
    assert table["rows"][0][table["columns"].index("Dice, validation")] is None
