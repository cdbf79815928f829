"""`segcore check --fix`: proposals are told, accepted ones written for `segcore train`; files stay."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segcore.card import read_config
from segcore.cli import main
from segcore.workspace import Workspace


@pytest.fixture
def shifted(tmp_path: Path, simulated: tuple[Path, Path]) -> list[str]:
    """Write labels that are shifted and saved as 0 and 255, and return the options that name them."""
    labels = tifffile.imread(simulated[1])
    tifffile.imwrite(
        tmp_path / "drawn.tif", np.roll(labels * 255, (0, 4, 5), (0, 1, 2)), metadata={"axes": "ZYX"}
    )
    return ["check", "--data.images", str(simulated[0]), "--data.labels", str(tmp_path / "drawn.tif"),
            "--data.patch-size", "32", "--fix"]  # fmt: skip


def _answer(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict:
    capsys.readouterr()
    status = main([*words, "--json"])
    content: dict = json.loads(capsys.readouterr().out)
    return content | {"status": status}


def test_without_consent_nothing_is_applied(
    shifted: list[str], workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = _answer(capsys, shifted)
    assert answer["saved"] is None
    assert {each["kind"]: each["accepted"] for each in answer["proposals"]} == {
        "values": False,
        "shifted": False,
    }
    assert not (workspace.root / "recipes").exists()


def test_yes_writes_what_training_needs(
    shifted: list[str], workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashlib.sha256((tmp_path / "drawn.tif").read_bytes()).digest()
    answer = _answer(capsys, [*shifted, "--yes", "--pictures", str(tmp_path / "pictures")])
    assert answer["status"] == 0
    saved = Path(answer["saved"])
    assert saved.is_relative_to(workspace.root)
    data = read_config(saved)[0].data
    assert data.recipe == ["labels.shift -4 -5"]
    assert data.patch_size == 32
    (picture,) = answer["pictures"]
    with Image.open(picture) as image:
        assert image.width >= 2 * 64
    assert before == hashlib.sha256((tmp_path / "drawn.tif").read_bytes()).digest()

    again = _answer(capsys, ["check", "--config", str(saved), "--fix"])
    assert [each["kind"] for each in again["proposals"]] == ["values"]
    assert _answer(capsys, [*shifted, "--yes"])["saved"] == str(saved)


def test_kinds_that_are_named_are_applied(
    shifted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mine.json"
    _answer(capsys, [*shifted, "--apply", "values", "--save", str(place)])
    assert read_config(place)[0].data.recipe == ["labels.values 0=0 255=1"]


def test_a_person_is_asked(
    shifted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n\n"))
    assert main([*shifted, "--save", str(tmp_path / "asked.json")]) == 0
    told = capsys.readouterr()
    assert told.err.count("Apply this repair?") == 2
    assert "segcore train --config" in told.out
    assert read_config(tmp_path / "asked.json")[0].data.recipe == ["labels.shift -4 -5"]


def test_foreign_files_are_not_overwritten(
    shifted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "results.json"
    precious.write_text('{"mine": 1}')
    assert main([*shifted, "--yes", "--save", str(precious)]) == 2
    assert "no configuration" in capsys.readouterr().err
    assert precious.read_text() == '{"mine": 1}'


@pytest.mark.parametrize("words", [["--yes"], ["--save", "x.json"], ["--pictures", "x"]])
def test_options_of_the_doctor_need_the_doctor(
    shifted: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*shifted[:-1], *words]) == 2
    assert "--fix" in capsys.readouterr().err


def test_repairs_that_do_not_exist_are_refused_with_those_that_do(
    shifted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*shifted, "--apply", "values,nonsense"]) == 2
    told = capsys.readouterr().err
    assert "--apply nonsense" in told
    assert "shifted, inverted" in told


def test_numbered_objects_are_not_listed_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    images, labels = tmp_path / "i.tif", tmp_path / "l.tif"
    tifffile.imwrite(images, rng.integers(0, 255, (64, 64), np.uint8))
    tifffile.imwrite(labels, (np.arange(64)[:, None] // 4 * 4 + np.arange(64) // 16).astype(np.uint8))
    words = ["check", "--data.images", str(images), "--data.labels", str(labels), "--data.patch-size", "32"]
    main([*words, "--model.layers", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("class ") for line in lines) == 10
    assert "… and 54 more; if these are objects, --data.labels-as foreground" in lines
    main([*words, "--model.layers", "3", "--data.labels-as", "foreground"])
    assert "more" not in capsys.readouterr().out
