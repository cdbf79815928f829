"""Needs: what is told before a segmentation is what it takes then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segcore.card import ModelCard, Normalization, PixelSize
from segcore.config import RunConfig, build_config
from segcore.data.collection import Entry
from segcore.data.items import Item
from segcore.errors import JobError
from segcore.estimate import MOST_ON_CPU, Machine, Network, prediction_bytes, unet_parameters
from segcore.inference.needs import Needs, needs_of
from segcore.inference.results import specs_on
from segcore.inference.sinks import SinkSpec, create_sink, result_bytes

MACHINE = Machine(text="CPU, 2 cores, bf16", gflops=100)
CARD = ModelCard(
    channels=1, class_values=(0, 255), class_names=("0", "255"), axes="YX", dtype="uint8",
    normalization=Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
)  # fmt: skip


def entry(planes: int, height: int, width: int, name: str = "a.tif") -> Entry:
    return Entry(
        Item(name, (name,)), planes, planes, height, width, 1, np.dtype(np.uint8), "ZYX", PixelSize()
    )


def needs(
    tmp_path: Path, *entries: Entry, machine: Machine | None = MACHINE, trained: RunConfig | None = None,
    **inference: object,
) -> Needs:  # fmt: skip
    config = build_config({"inference": inference})
    trained = trained or build_config({"model": {"features": 32, "layers": 4}})
    return needs_of(config, trained, CARD, entries, machine, tmp_path)


@pytest.mark.parametrize("file_format", ["tiff", "ome-zarr"])
@pytest.mark.parametrize("shape", [(3, 100, 90), (1, 5000, 4000)])
def test_disk_space_is_that_of_the_files(
    tmp_path: Path, file_format: str, shape: tuple[int, int, int]
) -> None:
    told = needs(tmp_path, entry(*shape), format=file_format, probabilities=True)
    sizes = shape if shape[0] > 1 else shape[1:]
    grid = SinkSpec("ZYX"[-len(sizes) :], sizes, np.dtype(np.uint8), PixelSize())
    options = build_config({"inference": {"format": file_format, "probabilities": True}}).inference
    labels, wide = specs_on(grid, CARD, options)
    assert wide
    assert (told.labels, told.probabilities) == (result_bytes(labels), result_bytes(wide))
    create_sink(tmp_path / "work", labels).close()
    if file_format == "tiff":
        assert 0.9 * told.labels - 2**17 <= (tmp_path / "work").stat().st_size <= told.labels


def test_a_folder_takes_the_space_of_its_images(tmp_path: Path) -> None:
    one = needs(tmp_path, entry(2, 300, 200))
    three = needs(tmp_path, *(entry(2, 300, 200, f"{number}.tif") for number in range(3)))
    assert three.labels == 3 * one.labels
    assert three.seconds == pytest.approx(3 * (one.seconds or 0))
    assert three.memory == one.memory


def test_a_disk_that_is_too_small_is_refused_with_every_way_out(tmp_path: Path) -> None:
    told = needs(tmp_path, entry(1, 9000, 9000), probabilities=True)
    told.check_disk("tiff")
    with pytest.raises(JobError, match="0 GB are free") as caught:
        replace(told, free=10**6).check_disk("tiff")
    assert "probabilities" in caught.value.remedy
    assert "OME-Zarr" in caught.value.remedy
    labels = needs(tmp_path, entry(1, 9000, 9000), format="ome-zarr")
    assert labels.required < labels.labels
    with pytest.raises(JobError) as alone:
        replace(labels, free=10**6).check_disk("ome-zarr")
    assert "OME-Zarr" not in alone.value.remedy


def test_memory_does_not_grow_with_the_image_and_holds_one_pass(tmp_path: Path) -> None:
    network = Network(32, 4)
    small, large, huge = (needs(tmp_path, entry(1, side, side)).memory or 0 for side in (512, 8192, 100_000))
    one_pass = 512 * 512 * prediction_bytes(network, 2)
    assert small >= one_pass + 6 * unet_parameters(network)
    assert small < large
    assert large == huge
    assert huge < 2.5 * MOST_ON_CPU


def test_flips_and_further_models_take_their_time(tmp_path: Path) -> None:
    once = needs(tmp_path, entry(4, 512, 512)).seconds or 0
    assert needs(tmp_path, entry(4, 512, 512), flips=True).seconds == pytest.approx(4 * once)
    assert needs(tmp_path, entry(4, 512, 512), ensemble=["b"]).seconds == pytest.approx(2 * once)


def test_where_nobody_knows_nothing_is_told(tmp_path: Path) -> None:
    assert needs(tmp_path, entry(1, 512, 512), machine=None).seconds is None
    assert needs(tmp_path, entry(1, 512, 512), cluster="local:2").seconds is None
    gpu = Machine(text="NVIDIA H200, bf16", gflops=1e5)
    assert needs(tmp_path, entry(1, 512, 512), machine=gpu).memory is None
