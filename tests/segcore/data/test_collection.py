"""A collection is one list of planes, whatever it is made of; what nobody annotated is IGNORE everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.config import DataConfig
from segcore.data.collection import Collection, extents, open_collection
from segcore.data.dataset import TrainingData, load_training_data
from segcore.data.loading import MEMORY_SHARE
from segcore.data.network_input import read_input
from segcore.data.split_file import load_split, save_split
from segcore.data.splits import split_images
from segcore.data.targets import LabelRule, encode_plane, table_of
from segcore.data.validate import check_data
from segcore.errors import ConfigError, DataError
from segcore.memory import Memory
from segcore.tiling import IGNORE

Folders = Callable[..., dict[str, str]]
RANDOM = np.random.default_rng(0)


def write(path: Path, pixels: np.ndarray, axes: str = "") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    photometric = "rgb" if axes == "YXC" else "minisblack"
    metadata = {"axes": axes.replace("YXC", "YXS") or {2: "YX", 3: "ZYX"}[pixels.ndim]}
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=metadata)
    return str(path)


def grey(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def objects(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 3, shape).astype(np.uint8)


@pytest.fixture
def mixed(tmp_path: Path) -> dict[str, Any]:
    """Make a folder with images of three sizes, one of them a stack, and their labels."""
    stacks: dict[str, Any] = {"a": (40, 48), "b": (3, 64, 36), "c": (50, 50)}
    planes, labels = [], []
    for name, shape in stacks.items():
        image, label = grey(*shape), objects(*shape)
        write(tmp_path / "images" / f"{name}.tif", image)
        write(tmp_path / "labels" / f"{name}.tif", label)
        planes += list(image.reshape(-1, *shape[-2:]))
        labels += list(label.reshape(-1, *shape[-2:]))
    data = DataConfig(images=str(tmp_path / "images"), labels=str(tmp_path / "labels"), patch_size=32)
    return {"data": data, "planes": planes, "labels": labels}


def test_planes_are_counted_through_all_images(mixed: dict[str, Any]) -> None:
    collection = open_collection(mixed["data"])
    assert (collection.count, collection.channels, len(collection.items)) == (5, 1, 3)
    for index, plane in enumerate(mixed["planes"]):
        np.testing.assert_array_equal(collection.read(index)[0], plane)
        assert collection.size(index) == plane.shape
        assert collection.position(*collection.locate(index)) == index
        part = collection.window(index, slice(5, 20), slice(30, 99))[0]
        np.testing.assert_array_equal(part, plane[5:20, 30:99])
        encoded = encode_plane(collection, *collection.locate(index), (0, 1, 2), LabelRule())
        np.testing.assert_array_equal(encoded, mixed["labels"][index])
    assert [collection.name(index) for index in (0, 2)] == ["a.tif", "b.tif, slice 1"]
    with pytest.raises(IndexError):
        collection.locate(5)


def test_images_that_were_closed_open_again(mixed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segcore.data.collection.KEPT_OPEN", 1)
    collection = open_collection(mixed["data"])
    for _ in range(2):
        for index, plane in enumerate(mixed["planes"]):
            np.testing.assert_array_equal(collection.read(index)[0], plane)


def test_grey_images_beside_colour_are_read_as_three_channels_and_it_is_said(tmp_path: Path) -> None:
    plain, colour = grey(40, 40), grey(40, 40, 3)
    write(tmp_path / "a.tif", plain)
    write(tmp_path / "b.tif", colour, "YXC")
    collection = open_collection(DataConfig(images=str(tmp_path)), labelled=False)
    assert collection.channels == 3
    np.testing.assert_array_equal(collection.read(0), np.stack([plain] * 3))
    np.testing.assert_array_equal(collection.read(1), np.moveaxis(colour, -1, 0))
    assert "grey" in collection.notes[0]


def test_images_that_differ_in_type_or_channels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    write(tmp_path / "types" / "a.tif", grey(40, 40))
    write(tmp_path / "types" / "b.tif", grey(40, 40).astype(np.uint16))
    with pytest.raises(DataError, match=r"uint8.*uint16") as caught:
        open_collection(DataConfig(images=str(tmp_path / "types")), labelled=False)
    assert "images.depth" in caught.value.remedy
    write(tmp_path / "channels" / "a.tif", grey(2, 40, 40), "CYX")
    write(tmp_path / "channels" / "b.tif", grey(4, 40, 40), "CYX")
    with pytest.raises(DataError, match="channels"):
        open_collection(DataConfig(images=str(tmp_path / "channels")), labelled=False)
    chosen = open_collection(DataConfig(images=str(tmp_path / "channels"), channels="0-1"), labelled=False)
    assert chosen.channels == 2
    with pytest.raises(ConfigError, match="channel 3"):
        open_collection(DataConfig(images=str(tmp_path / "channels"), channels="3"), labelled=False)


def test_a_pixel_size_given_by_hand_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", grey(4, 40, 40))
    size = open_collection(DataConfig(images=path, pixel_size="2,0.5,0.25"), False).entries[0].pixel_size
    assert (size.z, size.y, size.x) == (2, 0.5, 0.25)


def test_the_unannotated_are_ignored_however_it_is_said(tmp_path: Path) -> None:
    image, label = grey(4, 40, 40), objects(4, 40, 40)
    mask = RANDOM.random((4, 40, 40)) > 0.5
    paths = {
        "images": write(tmp_path / "raw.tif", image),
        "labels": write(tmp_path / "labels.tif", label),
        "mask": write(tmp_path / "mask.tif", mask.astype(np.uint8)),
    }
    data = DataConfig(**paths, unlabelled_value=0, annotated_slices="1-3", patch_size=32)
    collection, rule = open_collection(data), LabelRule.of(data)
    table = table_of(collection, rule)
    known = (label > 0) & mask
    known[0] = False
    assert table.pixels == {value: int(((label == value) & known).sum()) for value in (1, 2)}
    assert table.per_plane[0] == frozenset()
    for plane in range(4):
        encoded = encode_plane(collection, 0, plane, (1, 2), rule)
        np.testing.assert_array_equal(encoded, np.where(known[plane], label[plane].astype(int) - 1, IGNORE))
        part = encode_plane(collection, 0, plane, (1, 2), rule, slice(3, 17), slice(5, 9))
        np.testing.assert_array_equal(part, encoded[3:17, 5:9])


def test_annotated_slices_that_are_not_there_are_refused(tmp_path: Path) -> None:
    paths = {
        "images": write(tmp_path / "raw.tif", grey(4, 40, 40)),
        "labels": write(tmp_path / "labels.tif", objects(4, 40, 40)),
    }
    data = DataConfig(**paths, annotated_slices="1-5", patch_size=32)
    with pytest.raises(ConfigError, match="names 4, 5, but there are the slices 0 to 3"):
        load_training_data(data)
    (error,) = check_data(data).errors
    assert "names 4, 5" in error.what


def test_images_of_different_pixel_size_are_told(tmp_path: Path) -> None:
    for name, scale in (("a", 4), ("b", 4.1), ("c", 8)):
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / "images" / f"{name}.tif",
            grey(40, 40),
            imagej=True,
            resolution=(scale, scale),
            metadata={"unit": "um"},
        )
    notes = open_collection(DataConfig(images=str(tmp_path / "images")), labelled=False).notes
    assert [note for note in notes if "pixel size (Y 0.125 to 0.25 µm, X" in note]
    (tmp_path / "images" / "c.tif").unlink()
    assert not open_collection(DataConfig(images=str(tmp_path / "images")), labelled=False).notes


def test_nothing_annotated_is_told(tmp_path: Path) -> None:
    data = DataConfig(
        images=write(tmp_path / "raw.tif", grey(2, 40, 40)),
        labels=write(tmp_path / "labels.tif", np.zeros((2, 40, 40), np.uint8)),
        unlabelled_value=0,
    )
    with pytest.raises(DataError, match="Nothing is annotated"):
        table_of(open_collection(data), LabelRule.of(data))


def stack_data(tmp_path: Path, **options: Any) -> tuple[TrainingData, np.ndarray, np.ndarray]:
    image, label = grey(12, 48, 40), objects(12, 48, 40)
    data = DataConfig(
        images=write(tmp_path / "raw.tif", image),
        labels=write(tmp_path / "labels.tif", label),
        **{"patch_size": 32, "patch_depth": 4, **options},
    )
    return load_training_data(data), image, label


@pytest.mark.parametrize("loading", ["memory", "disk"])
@pytest.mark.parametrize("mode", ["2d", "2.5d", "3d"])
def test_volumes_hold_every_annotated_slice_once(tmp_path: Path, mode: str, loading: str) -> None:
    data, image, label = stack_data(tmp_path, mode=mode, loading=loading)
    seen: dict[int, str] = {}
    for part, volumes in (("train", data.train), ("validation", data.validation)):
        for volume in volumes:
            shape = volume.image_ZCYX.shape
            pixels = np.asarray(volume.image_ZCYX[:, :, :, :])[:, 0]
            np.testing.assert_array_equal(pixels, image[volume.first : volume.first + shape[0]])
            indices = np.asarray(volume.label_ZYX[:, :, :])
            for plane in range(shape[0]):
                if plane not in volume.annotated:
                    assert (indices[plane] == IGNORE).all()
                    continue
                assert volume.first + plane not in seen
                seen[volume.first + plane] = part
                np.testing.assert_array_equal(indices[plane], label[volume.first + plane])
                counts = np.bincount(indices[plane].ravel(), minlength=3)
                np.testing.assert_array_equal(volume.counts_ZK[plane], counts)
                for (at, index), pixels_n2 in volume.anchors.items():
                    if at == plane:
                        assert (indices[plane][tuple(pixels_n2.T)] == index).all()
    # Between blocks in 3d a slice is left out, so that no patch of one side looks at the other.
    assert set(range(12)) - set(seen) <= ({9} if mode == "3d" else set())
    assert set(seen.values()) == {"train", "validation"}


def test_an_image_of_its_own_statistics_has_those_of_the_whole_image(tmp_path: Path) -> None:
    data, image, _ = stack_data(tmp_path, normalize_per="image", normalization="z-score")
    assert data.normalization.per == "image"
    for volume in (*data.train, *data.validation):
        assert volume.normalization is not None
        assert volume.normalization.offset[0] == pytest.approx(image.mean())


def test_too_much_for_memory_is_read_from_disk_unless_that_is_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segcore.data.loading.MEMORY_SHARE", 1e-9)
    data, _, _ = stack_data(tmp_path)
    assert data.on_disk
    assert any("read from disk" in note for note in data.notes)
    with pytest.raises(DataError, match="memory"):
        stack_data(tmp_path, loading="memory")


def test_what_trains_must_fit_into_memory_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, image, _ = stack_data(tmp_path)
    pixels = image[0].size
    slices = [sum(len(volume.annotated) for volume in part) for part in (data.train, data.validation)]
    need = pixels * (slices[0] * 2 + slices[1]) * (image.dtype.itemsize + 2)
    for have, on_disk in ((need / MEMORY_SHARE + 9, False), (need / MEMORY_SHARE - 9, True)):
        monkeypatch.setattr("segcore.data.loading.main_memory", lambda have=have: Memory(2**40, int(have)))
        assert stack_data(tmp_path)[0].on_disk is on_disk


def test_a_split_survives_the_file_and_another_collection_is_refused(
    mixed: dict[str, Any], tmp_path: Path
) -> None:
    collection = open_collection(mixed["data"])
    split = split_images(extents(collection), mixed["data"])
    save_split(tmp_path, collection, split)
    found = load_split(tmp_path, collection)
    assert found is not None
    assert (found.train, found.validation, found.test) == (split.train, split.validation, split.test)
    alone = Collection([collection.entries[0].item], mixed["data"])
    with pytest.raises(DataError, match="are not here"):
        load_split(tmp_path, alone)
    assert load_split(tmp_path / "nowhere", collection) is None


def test_the_network_sees_neighbours_and_blocks_as_they_lie(tmp_path: Path) -> None:
    data, image, _ = stack_data(tmp_path)
    from segcore.card import ModelCard

    base = {
        "channels": 1, "class_values": (0, 1, 2), "class_names": ("0", "1", "2"),
        "normalization": data.normalization, "axes": "ZYX", "dtype": "uint8",
    }  # fmt: skip
    rows, columns = slice(0, 20), slice(4, 40)
    card = ModelCard(**base, mode="2.5d", context_slices=3, context_spacing=2)
    seen, _ = read_input(data.collection, 1, card, rows, columns)
    np.testing.assert_array_equal(seen, image[[1, 1, 3], rows, columns])
    block, at = read_input(data.collection, 10, ModelCard(**base, mode="3d"), rows, columns, halo=3)
    np.testing.assert_array_equal(block[0], image[7:12, rows, columns])
    assert at == 3
