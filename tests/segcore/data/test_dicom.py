"""DICOM: slices of a series in any order of files are one stack in the order of the patient."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from segcore.card import PixelSize
from segcore.data.dicom import is_dicom_series
from segcore.data.open import open_source
from segcore.data.source import ImageSource
from segcore.errors import DataError

SERIES = "1.2.3.4"
VOLUME = np.random.default_rng(0).integers(0, 4000, (5, 12, 14), np.uint16)


def write_slice(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Write a file of one or several frames."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    colour = pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.SeriesInstanceUID = SERIES
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


def at(z: float) -> dict[str, Any]:
    return {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}


def read_all(source: ImageSource) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), descending=st.booleans())
def test_slices_are_sorted_by_where_they_lie_in_the_patient(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], descending: bool
) -> None:
    folder = tmp_path_factory.mktemp("series")
    for name, z in enumerate(order):
        position = at(2.0 * z)
        number = 5 - z if descending else z + 1
        write_slice(folder / f"IM{name:04}.dcm", VOLUME[z], InstanceNumber=number, **position)
    source = open_source(folder)
    assert np.array_equal(read_all(source), VOLUME)
    assert source.axes == "ZYX"
    assert source.pixel_size == PixelSize(z=2000, y=500, x=250)
    part = (slice(1, 3), slice(2, 9), slice(0, 5))
    assert np.array_equal(source.read(part), VOLUME[part])


def test_slices_without_positions_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    for z in range(5):
        write_slice(tmp_path / f"{9 - z}", VOLUME[z], InstanceNumber=z + 1)
    assert np.array_equal(read_all(open_source(tmp_path)), VOLUME)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, "int32"), (0.5, 3, "float32"), (1, 0.5, "float32"), (1, 0, "uint16")],
)
def test_values_are_what_slope_and_intercept_mean(
    tmp_path: Path, slope: float, intercept: float, dtype: str
) -> None:
    path = write_slice(tmp_path / "slice.dcm", VOLUME[0], RescaleSlope=slope, RescaleIntercept=intercept)
    source = open_source(path)
    assert source.dtype == dtype
    assert np.allclose(read_all(source), VOLUME[0].astype(float) * slope + intercept)


def test_twelve_bits_in_hounsfield_units_need_no_more_than_sixteen(tmp_path: Path) -> None:
    path = write_slice(
        tmp_path / "slice.dcm", VOLUME[0], RescaleIntercept=-1024, RescaleSlope=1, BitsStored=12, HighBit=11
    )
    source = open_source(path)
    assert source.dtype == np.int16
    assert np.array_equal(read_all(source), VOLUME[0].astype(np.int16) - 1024)


def test_a_file_of_many_frames_is_a_stack(tmp_path: Path) -> None:
    source = open_source(write_slice(tmp_path / "frames.dcm", VOLUME, SliceThickness=3))
    assert np.array_equal(read_all(source), VOLUME)
    assert source.pixel_size.z == 3000
    assert np.array_equal(source.read((slice(3, 4), slice(None), slice(None))), VOLUME[3:4])


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "frames.dcm", VOLUME)
    tags = pydicom.dcmread(path)
    tags.compress(RLELossless)
    tags.save_as(path)
    assert np.array_equal(read_all(open_source(path)), VOLUME)


def test_a_colour_file_without_ending_is_read(tmp_path: Path) -> None:
    colours = (VOLUME[:3] % 256).astype(np.uint8).transpose(1, 2, 0).copy()
    source = open_source(write_slice(tmp_path / "IM0001", colours))
    assert source.axes == "YXC"
    assert np.array_equal(read_all(source), colours)


def test_two_series_in_a_folder_are_refused_until_one_is_named(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", VOLUME[0], **at(0))
    write_slice(tmp_path / "b.dcm", VOLUME[1], SeriesInstanceUID="9.9", SeriesDescription="scout", **at(0))
    with pytest.raises(DataError, match=r"2 series: .*9\.9 \(scout, 1 files\)") as caught:
        open_source(tmp_path)
    assert "folder of their own" in caught.value.remedy
    assert np.array_equal(read_all(open_source(f"{tmp_path}::9.9")), VOLUME[1])
    with pytest.raises(DataError, match="no series '8'"):
        open_source(f"{tmp_path}::8")


def test_slices_that_are_no_stack_are_refused(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", VOLUME[0], **at(0))
    write_slice(tmp_path / "b.dcm", VOLUME[1], **at(0))
    with pytest.raises(DataError, match="same position"):
        open_source(tmp_path)
    write_slice(tmp_path / "b.dcm", VOLUME[1, :5], **at(1))
    with pytest.raises(DataError, match="differ in size"):
        open_source(tmp_path)


def test_a_missing_slice_is_told(tmp_path: Path) -> None:
    for z in (0, 1, 2, 4):
        write_slice(tmp_path / f"{z}.dcm", VOLUME[z], **at(z))
    assert "some may be missing" in " ".join(open_source(tmp_path).notes)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", VOLUME[0])
    content = path.read_bytes()
    for share in (0.02, 0.3, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError) as caught:
            read_all(open_source(path))
        assert caught.value.remedy
    tags = pydicom.dcmread(write_slice(tmp_path / "b.dcm", VOLUME[0]))
    tags.Rows = tags.Columns = 40_000
    tags.save_as(path)
    with pytest.raises(DataError):
        read_all(open_source(path))
    del tags.Rows
    tags.save_as(path)
    with pytest.raises(DataError, match="without an image"):
        open_source(path)


def test_a_folder_of_other_files_is_no_series(tmp_path: Path) -> None:
    assert not is_dicom_series(tmp_path)
    (tmp_path / "a.tif").write_bytes(b"II*\x00")
    assert not is_dicom_series(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    write_slice(tmp_path / "series" / "a.dcm", VOLUME[0], **at(0))
    (tmp_path / "series" / "b.dcm").symlink_to(write_slice(tmp_path / "secret.dcm", VOLUME[1], **at(1)))
    with pytest.raises(DataError, match=r"b\.dcm is a link"):
        open_source(tmp_path / "series")
