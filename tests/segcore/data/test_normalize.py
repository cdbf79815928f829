"""Normalisation: fitted once, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.card import Normalization
from segcore.data import normalize
from segcore.data.normalize import KINDS, apply_normalization, fit_normalization
from segcore.errors import ConfigError, DataError

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "float32", "float64")


def stack(dtype: str, count: int = 6, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Return planes `(N, C, Y, X)` with a trend over planes, columns and channels."""
    rng = np.random.default_rng(seed)
    trend = (
        np.arange(count)[:, None, None, None] + np.arange(64) / 8 + 20 * np.arange(channels)[:, None, None]
    )
    return (30 + trend + rng.gamma(2, 8, (count, channels, 48, 64))).clip(0, 120).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["percentile", "z-score", "min-max"])
def test_statistics_of_a_stream_are_those_of_the_whole(dtype: str, kind: str) -> None:
    planes = stack(dtype)
    fitted = fit_normalization(iter(planes), kind)
    for channel in range(2):
        values = planes[:, channel].astype(np.float64)
        if kind == "z-score":
            expected = values.mean(), values.std()
        else:
            low, high = (
                np.percentile(values, (0.5, 99.5)) if kind == "percentile" else (values.min(), values.max())
            )
            expected = (low + high) / 2, (high - low) / 2
        tolerance = 1.0 if kind == "percentile" and dtype.strip("u") in ("int8", "int16") else 1e-6
        assert fitted.offset[channel] == pytest.approx(expected[0], abs=tolerance)
        assert fitted.scale[channel] == pytest.approx(expected[1], abs=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_do_not_depend_on_the_cut_into_planes(dtype: str) -> None:
    planes = stack(dtype)
    whole = planes.swapaxes(0, 1).reshape(2, -1, 64)
    for kind in KINDS:
        cut, joined = fit_normalization(planes, kind), fit_normalization([whole], kind)
        assert cut.offset == pytest.approx(joined.offset, rel=1e-9)
        assert cut.scale == pytest.approx(joined.scale, rel=1e-9)


def test_the_sample_is_bounded_and_regular(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "SAMPLE", 1000)
    channel = normalize._Sampled()
    values = np.arange(200_000, dtype=np.float64)
    for part in np.split(values, [7, 999, 1005, 40_000, 123_457]):
        channel.add(part)
        assert channel._sample.size <= 1000
    assert len(set(np.diff(channel._sample))) == 1
    assert channel.percentiles() == pytest.approx((1000, 199_000), rel=0.05)


def test_a_small_deviation_around_a_large_mean_survives() -> None:
    planes = 1e9 + np.random.default_rng(0).normal(0, 1, (5, 1, 40, 40))
    assert fit_normalization(planes, "z-score").scale[0] == pytest.approx(planes.std(), rel=1e-3)
    counts = planes.astype(np.uint32)
    fitted = fit_normalization(counts, "z-score")
    applied = np.stack([apply_normalization(plane, fitted) for plane in counts])
    assert applied.std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_infinity_change_no_statistic_and_never_come_out(kind: str) -> None:
    planes = stack("float32")
    spoilt = np.concatenate([planes, np.full_like(planes[:1], np.nan)])
    spoilt[-1, :, :24] = np.inf
    assert fit_normalization(spoilt, kind) == fit_normalization(planes, kind)
    applied = apply_normalization(spoilt[-1], fit_normalization(planes, kind))
    assert np.isfinite(applied).all()
    assert (applied[:, 24:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["percentile", "z-score", "min-max"])
def test_a_constant_channel_becomes_zero(dtype: str, kind: str) -> None:
    planes = np.full((2, 1, 16, 16), 7, dtype)
    fitted = fit_normalization(planes, kind)
    assert fitted.scale == (1.0,)
    assert not apply_normalization(planes[0], fitted).any()


def test_a_channel_that_is_nearly_all_zero_keeps_its_signal() -> None:
    plane = np.zeros((1, 100, 100), np.uint8)
    plane[0, 0, :3] = 200
    applied = apply_normalization(plane, fit_normalization([plane], "percentile"))
    assert applied.max() == 1
    assert applied.min() == -1


def test_percentiles_become_minus_one_and_one_and_hot_pixels_are_bounded() -> None:
    plane = np.random.default_rng(0).integers(0, 1000, (1, 300, 300)).astype(np.uint16)
    plane[0, 0, 0] = 65535
    fitted = fit_normalization([plane], "percentile")
    applied = apply_normalization(plane, fitted)
    assert np.percentile(applied, (0.5, 99.5)) == pytest.approx((-1, 1), abs=0.01)
    assert applied.max() == 3
    assert applied.dtype == np.float32


@settings(deadline=None, max_examples=50)
@given(offset=st.floats(-1e4, 1e4), scale=st.floats(1e-3, 1e4), seed=st.integers(0, 99))
def test_applying_is_the_linear_map_it_says(offset: float, scale: float, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 65535, (1, 8, 9)).astype(np.uint16)
    before = image.copy()
    applied = apply_normalization(image, Normalization(kind="x", offset=(offset,), scale=(scale,)))
    assert np.allclose(applied, (image.astype(np.float64) - offset) / scale, rtol=1e-4, atol=1e-3 / scale)
    assert np.array_equal(image, before)


def test_none_leaves_values_as_they_are() -> None:
    planes = stack("uint16")
    assert np.array_equal(apply_normalization(planes[0], fit_normalization(planes, "none")), planes[0])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="percentile, z-score"):
        fit_normalization(stack("uint8"), "median")
    with pytest.raises(DataError, match="no planes"):
        fit_normalization([], "z-score")
    with pytest.raises(DataError, match="2 and 1 channels"):
        fit_normalization([np.zeros((2, 4, 4)), np.zeros((1, 4, 4))], "z-score")
    with pytest.raises(DataError, match="fitted to 2"):
        apply_normalization(np.zeros((3, 4, 4)), fit_normalization(stack("uint8"), "z-score"))
