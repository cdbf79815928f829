"""`segcore masks`: SAM on images from the command line, and what is wrong told before it computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from known_objects import write_sam2

from segcore.cli import main
from segcore.config import DataConfig
from segcore.data.collection import open_collection
from segcore.data.targets import LabelRule, table_of
from segcore.promptable.promptable import OPTIONS, Everything


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Return the command for two images of two slices and a tiny SAM 2 that answers anything."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        grey = np.random.default_rng(0).integers(0, 4000, (2, 40, 50)).astype(np.uint16)
        tifffile.imwrite(folder / f"{name}.tif", grey, photometric="minisblack", metadata={"axes": "ZYX"})
    model = write_sam2(tmp_path / "tiny")
    return [
        "masks", "--images", str(folder), "--model", str(model), "--side", "3", "--device", "cpu",
        "--iou", "0", "--stability", "0", "--largest", "1", "--output", str(tmp_path / "masks"),
    ]  # fmt: skip


def test_the_masks_of_a_folder_are_labels_of_its_images(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["slices"], said["unlabelled_value"]) == (4, None)
    assert said["objects"] > 0
    assert [Path(path).name for path in said["stacks"]] == ["a.tif", "b.tif"]
    data = DataConfig(images=str(tmp_path / "images"), labels=said["output"], labels_as="foreground")
    collection = open_collection(data)
    assert len(collection.entries) == 2
    assert set(table_of(collection, LabelRule.of(data)).pixels) <= {0, 1}
    assert main(words) == 0
    assert f"{said['objects']} objects on 4 slices of 2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "nowhere"}, "config.json"),
        ({"--images": "nowhere.tif"}, "nowhere.tif"),
        ({"--iou": "2"}, "--iou is 2"),
        ({"--tile": "9"}, "no whole number from 64 on"),
        ({"--output": "{images}"}, "where the images are"),
        ({"--output": "{images}/a.tif"}, "is the file"),
        ({"--axes": "QQ"}, "axes"),
    ],
)
def test_what_cannot_be_is_told_at_once(
    words: list[str], change: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = dict(zip(words[1::2], words[2::2], strict=True))
    given |= {name: value.format(images=given["--images"]) for name, value in change.items()}
    assert main(["masks", *(word for pair in given.items() for word in pair)]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_images_are_never_replaced_by_labels(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images" / "PosA").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.tif").rename(tmp_path / "images" / "PosA" / f"{name}.tif")
    image = tmp_path / "images" / "PosA" / "a.tif"
    before = image.read_bytes()
    words[words.index("--output") + 1] = str(tmp_path / "images")
    assert main(words) == 2
    assert f"replace the image {image}" in capsys.readouterr().err
    assert image.read_bytes() == before


def test_a_network_that_is_not_here_is_named_without_a_network(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    words[words.index("--model") + 1] = "someone/some-sam"
    assert main(words) == 1
    assert "someone/some-sam are not on this machine" in capsys.readouterr().err


def test_the_help_names_every_option_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(OPTIONS) == set(Everything.__dataclass_fields__)
    with pytest.raises(SystemExit):
        main(["masks", "--help"])
    said = " ".join("".join(capsys.readouterr()).split())
    for option in OPTIONS.values():
        assert option.help in said
