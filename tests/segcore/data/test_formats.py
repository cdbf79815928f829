"""The same stack in any format trains the same model; what is wrong with a file is said."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from segcore.card import PixelSize
from segcore.config import DataConfig
from segcore.data.dataset import load_training_data
from segcore.data.open import open_source
from segcore.errors import DataError

EVERYTHING = (slice(None),) * 4


def as_npy(path: Path, pixels: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), pixels)
    return path.with_suffix(".npy")


def as_npz(path: Path, pixels: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), other=pixels[:1], stack=pixels)
    return Path(f"{path}.npz::stack")


def as_hdf5(path: Path, pixels: np.ndarray) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["volumes/stack"] = pixels
        file["volumes/other"] = pixels[:1]
    return Path(f"{path}.h5::volumes/stack")


def as_nifti(path: Path, pixels: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(pixels.transpose(), np.eye(4)), path.with_suffix(".nii.gz"))
    return path.with_suffix(".nii.gz")


def as_zarr(path: Path, pixels: np.ndarray) -> Path:
    array = zarr.create_array(path.with_suffix(".zarr"), shape=pixels.shape, dtype=pixels.dtype)
    array[...] = pixels
    return path.with_suffix(".zarr")


def as_channel_files(path: Path, pixels: np.ndarray) -> Path:
    """Save images as two files of which each is one channel; labels as they are."""
    if "labels" in path.name:
        return as_npy(path, pixels)
    return Path(f"{as_npy(path.with_name('one'), pixels)};{as_npy(path.with_name('two'), 60_000 - pixels)}")


@pytest.mark.parametrize("save", [as_npy, as_npz, as_hdf5, as_nifti, as_zarr])
def test_the_format_changes_nothing(
    save: Callable[[Path, np.ndarray], Path], simulated: tuple[Path, Path], tmp_path: Path
) -> None:
    expected = load_training_data(DataConfig(images=str(simulated[0]), labels=str(simulated[1])))
    images, labels = (save(tmp_path / path.stem, tifffile.imread(path)) for path in simulated)
    read = load_training_data(DataConfig(images=str(images), labels=str(labels)))
    assert read.normalization == expected.normalization
    assert read.class_values == expected.class_values
    for volume, same in zip(
        [*read.train, *read.validation], [*expected.train, *expected.validation], strict=True
    ):
        assert np.array_equal(volume.image_ZCYX[EVERYTHING], same.image_ZCYX[EVERYTHING])
        assert np.array_equal(volume.label_ZYX[EVERYTHING[1:]], same.label_ZYX[EVERYTHING[1:]])
    assert read.data_hash != expected.data_hash


def test_channel_files_are_one_image_and_a_chosen_channel_is_that_file(
    simulated: tuple[Path, Path], tmp_path: Path
) -> None:
    expected = load_training_data(DataConfig(images=str(simulated[0]), labels=str(simulated[1])))
    images, labels = (
        str(as_channel_files(tmp_path / path.stem, tifffile.imread(path))) for path in simulated
    )
    both = load_training_data(DataConfig(images=images, labels=labels))
    first = load_training_data(DataConfig(images=images, labels=labels, channels="0", pixel_size="0.5"))
    assert first.normalization == expected.normalization
    assert first.pixel_size.x == 0.5
    for volume, two, same in zip(first.train, both.train, expected.train, strict=True):
        assert np.array_equal(volume.image_ZCYX[EVERYTHING], same.image_ZCYX[EVERYTHING])
        assert np.array_equal(
            two.image_ZCYX[EVERYTHING].sum(axis=1, dtype=int), np.full(same.label_ZYX.shape, 60_000)
        )


def test_an_array_that_is_not_in_the_file_is_told_with_those_that_are(tmp_path: Path) -> None:
    pixels = np.zeros((3, 12, 13), np.uint8)
    for path in (as_npz(tmp_path / "a", pixels), as_hdf5(tmp_path / "b", pixels)):
        file, _, name = str(path).partition("::")
        for wrong in (file, f"{file}::nothing"):
            with pytest.raises(DataError, match=name):
                open_source(Path(wrong))
    with pytest.raises(DataError, match="one image only"):
        open_source(Path(f"{as_npy(tmp_path / 'c', pixels)}::stack"))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".nii", ".nii.gz", ".png", ".bmp", ".jpg"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x93NUMPY\x01\x00", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_none_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert str(path) in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".png"])
def test_a_file_that_was_cut_off_is_refused(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 65), np.uint8)
    path = tmp_path / f"image{suffix}"
    if suffix == ".npy":
        np.save(path, pixels)
    elif suffix == ".h5":
        path = Path(str(as_hdf5(tmp_path / "image", pixels)).partition("::")[0])
    else:
        from PIL import Image

        Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError):
        read_all(path)


def read_all(path: Path) -> np.ndarray:
    source = open_source(path)
    return source.read((slice(None),) * len(source.axes))


def test_nothing_is_unpickled_and_no_archive_unpacks_without_end(tmp_path: Path) -> None:
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        open_source(objects)
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        for _ in range(300):
            member.write(bytes(2**20))
    with pytest.raises(DataError, match="unpack"):
        open_source(bomb)


def test_axes_and_pixel_size_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = np.zeros((3, 12, 13), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = pixels
        file["raw"].attrs["axistags"] = '{"axes": [{"key": "c"}, {"key": "y"}, {"key": "x"}]}'
        file["raw"].attrs["element_size_um"] = [2.0, 0.5, 0.25]
    source = open_source(tmp_path / "a.h5")
    assert source.axes == "CYX"
    assert source.pixel_size == PixelSize(z=2.0, y=0.5, x=0.25)
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        image = kind(pixels.transpose(), np.diag([0.25, 0.5, 2.0, 1.0]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / "a.nii")
        assert open_source(tmp_path / "a.nii").pixel_size == PixelSize(z=2000.0, y=500.0, x=250.0)
    silent = nibabel.Nifti1Image(pixels.transpose(), np.eye(4))
    silent.header.set_xyzt_units("unknown")
    nibabel.save(silent, tmp_path / "b.nii")
    assert open_source(tmp_path / "b.nii").pixel_size == PixelSize()


def test_scaled_numbers_are_those_that_are_meant(tmp_path: Path) -> None:
    pixels = np.arange(3 * 12 * 13, dtype=np.int16).reshape(3, 12, 13)
    image = nibabel.Nifti1Image(pixels.transpose(), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nibabel.save(image, tmp_path / "a.nii")
    stored = nibabel.load(tmp_path / "a.nii").get_fdata().transpose()
    source = open_source(tmp_path / "a.nii")
    assert source.dtype == np.float32
    assert np.allclose(read_all(tmp_path / "a.nii"), stored)


@pytest.mark.parametrize("save", [as_npz, as_nifti])
def test_what_changed_on_disk_is_read_anew(save: Callable[[Path, np.ndarray], Path], tmp_path: Path) -> None:
    for value in range(3):
        address = save(tmp_path / "image", np.full((3, 12, 13), value, np.uint8))
        file = Path(str(address).partition("::")[0])
        os.utime(file, ns=(value, value))
        assert np.unique(read_all(address)).tolist() == [value]


def test_the_first_image_of_a_converted_file_is_read(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    levels = {"axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}
    for series in range(2):
        group = root.create_group(str(series), attributes={"multiscales": [levels]})
        group.create_array("0", data=np.full((3, 12, 13), series, np.uint8))
    source = open_source(tmp_path / "a.zarr")
    assert "the first is read" in " ".join(source.notes)
    assert np.unique(read_all(tmp_path / "a.zarr")).tolist() == [0]
    assert np.unique(read_all(Path(f"{tmp_path / 'a.zarr'}::1"))).tolist() == [1]


def test_a_gigapixel_of_labels_drawn_in_one_corner_is_no_trap(tmp_path: Path) -> None:
    corner = np.random.default_rng(0).integers(0, 9, (256, 256), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        labels = file.create_dataset("labels", (40_000, 25_000), "u1", chunks=(256, 256), compression="gzip")
        labels[:256, :256] = corner
    array = zarr.create_array(tmp_path / "a.zarr", shape=(40_000, 25_000), dtype="u1", chunks=(256, 256))
    array[:256, :256] = corner
    for name in ("a.h5", "a.zarr"):
        source = open_source(tmp_path / name)
        assert np.array_equal(source.read((slice(0, 256), slice(0, 256))), corner)
        assert not source.read((slice(9000, 9100), slice(0, 300))).any()
