"""The memory estimate follows the options; what it proposes fits, and nothing gentler does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.config import RunConfig, build_config
from segcore.estimate import Machine, Stack
from segcore.footprint import (
    FEATURES,
    FITS,
    PATCHES,
    Footprint,
    MemoryNeed,
    data_bytes,
    estimate_footprint,
    estimate_here,
    judge_memory,
    patches_at_once,
    propose,
    with_options,
)

STACK = Stack(30, 512, 512, 1, 1)


def _need(config: RunConfig, have: int = 10**12) -> int:
    return estimate_footprint(config, STACK).need(patches_at_once(config), have)


def _sensor3d(slices: int) -> dict[str, Any]:
    return {"model": {"family": "sensor3d"}, "data": {"mode": "2.5d", "context_slices": slices}}


def _head(name: str) -> dict[str, Any]:
    return {"model": {"head": name}, "data": {"labels_as": "objects"}}


def _on_encoder(encoder: str) -> dict[str, Any]:
    return {"model": {"family": "unet-encoder", "encoder": encoder}}


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"data": {"patch_size": 256}}, {"data": {"patch_size": 128}}),
        ({"training": {"batch_size": 32}, "data": {"patch_size": 256}}, {"data": {"patch_size": 256}}),
        ({"model": {"features": 64}}, {"model": {"features": 32}}),
        ({"training": {"averaging": "ema"}}, {}),
        ({}, {"training": {"optimizer": "sgd"}}),
        ({"data": {"mode": "3d", "patch_depth": 32}}, {"data": {"mode": "3d"}}),
        ({"data": {"mode": "3d"}}, {}),
        ({"data": {"mode": "2.5d", "context_slices": 31}}, {}),
        ({}, {"data": {"loading": "disk"}}),
        (_sensor3d(5), _sensor3d(3)),
        (_sensor3d(3), {"data": {"mode": "2.5d", "context_slices": 3}}),
        (_on_encoder("resnet101"), _on_encoder("resnet34")),
        (_on_encoder("resnext101_32x48d"), {"model": {"family": "segformer-b5"}}),
        (_head("stars"), _head("flows")),
        (_head("flows"), {}),
    ],
)
def test_larger_options_need_more(more: dict[str, Any], less: dict[str, Any]) -> None:
    assert _need(build_config(more)) > _need(build_config(less))


def test_micro_batches_need_what_a_batch_of_their_size_needs() -> None:
    whole = build_config({"training": {"batch_size": 4}, "data": {"patch_size": 256}})
    pieces = build_config({"training": {"batch_size": 32, "micro_batch": 4}, "data": {"patch_size": 256}})
    assert _need(pieces) == _need(whole)


def test_a_large_slice_is_predicted_in_tiles_and_so_needs_no_more_than_its_share() -> None:
    footprint = Footprint(process=100, weights=0, patch=1, validation=10_000, data=0)
    assert footprint.need(1, have=1000) == 600


def test_images_lie_in_main_memory_twice_and_on_a_gpu_once() -> None:
    config = build_config({"data": {"validation_slices": "0"}})
    stack = Stack(3, 10, 10, 2, 2)
    assert data_bytes(config, stack, gpu=True) == 2 * 100 * (2 * 2 + 2)
    assert data_bytes(config, stack) == 2 * 100 * (2 * 2 + 2) + 3 * 100 * (2 * 2 + 2)


@given(
    features=st.sampled_from(FEATURES),
    patch=st.sampled_from(PATCHES),
    batch=st.sampled_from([1, 2, 8, 32]),
    layers=st.integers(2, 4),
    have=st.floats(8e8, 3e10),
)
def test_a_proposal_fits_and_nothing_gentler_does(
    features: int, patch: int, batch: int, layers: int, have: float
) -> None:
    if patch < 2 * 2**layers or patch % 2**layers:
        return
    config = build_config(
        {
            "model": {"features": features, "layers": layers},
            "data": {"patch_size": patch},
            "training": {"batch_size": batch},
        }
    )
    available = int(have)
    need = judge_memory(config, STACK, available, estimate_footprint(config, STACK))
    if need.ratio <= 1:
        assert need.proposal is None
        return
    if need.proposal is None:
        smallest = with_options(
            config,
            {"model.features": 16, "data.patch_size": max(32, 2 * 2**layers), "training.micro_batch": 1},
        )
        assert _need(smallest, available) > FITS * available
        return
    assert need.proposal
    chosen = with_options(config, need.proposal)
    assert _need(chosen, available) <= FITS * available
    pieces = patches_at_once(chosen)
    if pieces < batch:
        larger = with_options(chosen, {"training.micro_batch": 2 * pieces})
        assert _need(larger, available) > FITS * available
    if "model.features" in need.proposal:
        wider = FEATURES[FEATURES.index(chosen.model.features) - 1]
        assert _need(with_options(chosen, {"model.features": wider}), available) > FITS * available


def test_a_proposal_begins_with_the_micro_batch() -> None:
    config = build_config({"training": {"batch_size": 32}, "data": {"patch_size": 256}})
    footprint = estimate_footprint(config, STACK)
    have = int(footprint.need(4, 10**12) / FITS) + 1
    assert propose(config, STACK, have, footprint) == {"training.micro_batch": 4}


def test_a_measurement_corrects_the_estimates_of_other_settings() -> None:
    config = build_config({"training": {"batch_size": 8}, "data": {"patch_size": 256}})
    guess = estimate_footprint(config, STACK)
    doubled = guess._replace(patch=2 * guess.patch)
    have = int(guess.need(4, 10**12) / FITS) + 1
    assert propose(config, STACK, have, guess) == {"training.micro_batch": 4}
    assert propose(config, STACK, have, doubled) == {"training.micro_batch": 2}


def test_the_memory_of_a_gpu_is_not_guessed() -> None:
    gpu = Machine(text="NVIDIA H200, bf16", gflops=1e5)
    assert estimate_here(RunConfig(), STACK, gpu) is None
    on_cpu = build_config({"hardware": {"device": "cpu"}})
    assert estimate_here(on_cpu, STACK, gpu) is not None


def test_short_numbers_need_less() -> None:
    config = build_config({"data": {"patch_size": 256}})
    needs = [
        estimate_here(config, STACK, Machine(text=text, gflops=1)) for text in ("CPU, bf16", "CPU, fp32")
    ]
    assert needs[0]
    assert needs[1]
    assert needs[0].need < needs[1].need


def test_the_ratio_is_need_by_have() -> None:
    assert MemoryNeed(need=3, have=2, measured=True).ratio == 1.5


def test_weights_are_those_of_the_family_and_not_of_the_network_it_is_like() -> None:
    for family in ("segformer-b5", "fc-densenet-103", "swin-unetr", "unet-encoder"):
        config = build_config({"model": {"family": family}})
        weights = estimate_footprint(config, STACK, gpu=True).weights
        assert weights == 16 * config.model.kind.parameters
