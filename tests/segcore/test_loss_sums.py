"""Sums of losses as text, and the losses that libraries have, against those."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from segcore.config import build_config
from segcore.config.loss import LOSS_MENU, LOSS_TERMS, LossTerm, parse_loss
from segcore.errors import ConfigError
from segcore.losses import LOSSES, build_loss
from segcore.losses.boundary import border_distances
from segcore.tiling import IGNORE

WEIGHTS = st.integers(1, 400).map(lambda number: number / 100)
SUMS = st.dictionaries(st.sampled_from(LOSS_TERMS), WEIGHTS, min_size=1, max_size=4)


def batch(classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return logits and class indices, some of them not annotated."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 9, 7, generator=generator)
    return logits, torch.randint(-1, classes, (2, 9, 7), generator=generator)


def annotated_only(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities `(K, N)` and truth `(K, N)` of the annotated pixels."""
    known = target.flatten() != IGNORE
    p_KN = logits.softmax(1).transpose(0, 1).flatten(1)[:, known]
    return p_KN, functional.one_hot(target.flatten()[known], len(p_KN)).T.float()


def test_every_name_of_the_options_has_a_loss() -> None:
    assert set(LOSSES) == {*LOSS_TERMS, "dice+ce", "ce+border"}
    for text in LOSS_MENU:
        assert torch.isfinite(build_loss(text)(*batch()))
    # Sums with plus signs in their names are the sums of their parts.
    for name in ("dice+ce", "ce+border"):
        parts = [build_loss(part)(*batch()) for part in name.split("+")]
        torch.testing.assert_close(build_loss(name)(*batch()), torch.stack(parts).sum())


@given(parts=SUMS, spaces=st.booleans())
@settings(max_examples=30)
def test_a_sum_is_read_as_it_is_written(parts: dict[str, float], spaces: bool) -> None:
    text = (" + " if spaces else "+").join(f"{weight:g}*{name}" for name, weight in parts.items())
    assert parse_loss(text) == tuple(LossTerm(name, weight) for name, weight in parts.items())
    assert build_config({"training": {"loss": text}}).training.loss == text.replace(" ", "")


@given(parts=SUMS, seed=st.integers(0, 99), weighted=st.booleans())
@settings(deadline=None, max_examples=15)
def test_a_sum_is_the_sum_of_its_weighted_parts(parts: dict[str, float], seed: int, weighted: bool) -> None:
    logits, target = batch(seed=seed)
    weights = [0.5, 1.0, 3.0] if weighted else None
    text = "+".join(f"{weight:g}*{name}" for name, weight in parts.items())
    expected = sum(weight * build_loss(name, weights)(logits, target) for name, weight in parts.items())
    torch.testing.assert_close(build_loss(text, weights)(logits, target), expected)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hinge", r"^training\.loss: 'hinge' is not a loss.*focal-tversky"),
        ("dice+hinge", r"'hinge' in 'dice\+hinge' is not a loss"),
        ("dice+", "is not a loss"),
        ("", "is not a loss"),
        ("-1*dice", "is not a loss"),
        ("nan*dice", "is not a loss"),
        ("0*dice+ce", "weight of dice .* is 0"),
        ("dice+ce+0.5*dice", "dice more than once"),
        ("Dice", "is not a loss"),
    ],
)
def test_what_is_no_sum_is_refused_in_plain_words(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build_config({"training": {"loss": text}})


@pytest.mark.parametrize("options", [{"devices": 2}, {"num_nodes": 2}])
def test_what_sorts_all_pixels_is_refused_on_several_devices(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"training\.loss 0\.5\*lovasz\+ce .* one device"):
        build_config({"training": {"loss": "0.5*lovasz+ce", **options}})
    build_config({"training": {"loss": "focal-tversky+ce", **options}})


@pytest.mark.parametrize("name", sorted({*LOSS_TERMS, *LOSS_MENU}))
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=4)
def test_pixels_nobody_annotated_change_nothing_and_learn_nothing(name: str, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, target = batch(seed=seed)
    target[torch.rand(target.shape, generator=generator) < share] = IGNORE
    unknown = (target == IGNORE)[:, None].expand_as(logits)
    wild = torch.where(unknown, 100 * torch.randn(logits.shape, generator=generator), logits)
    results = []
    for given_logits in (logits.clone().requires_grad_(), wild.requires_grad_()):
        value = build_loss(name)(given_logits, target)
        (gradient,) = torch.autograd.grad(value, given_logits)
        assert not gradient[unknown].any()
        assert torch.isfinite(gradient).all()
        results.append((value, gradient[~unknown]))
    torch.testing.assert_close(*[value for value, _ in results])
    torch.testing.assert_close(*[gradient for _, gradient in results])


def test_squared_and_absolute_errors_are_those_of_torch() -> None:
    logits, target = batch()
    p, truth = annotated_only(logits, target)
    for name, reference in (("mse", functional.mse_loss), ("mae", functional.l1_loss)):
        torch.testing.assert_close(build_loss(name)(logits, target), reference(p, truth), rtol=0, atol=1e-5)


def test_focal_tversky_is_its_definition() -> None:
    logits, target = batch()
    losses = []
    for p_N, true_N in zip(*annotated_only(logits, target), strict=True):
        hits, alarms, misses = (p_N * true_N).sum(), (p_N * (1 - true_N)).sum(), ((1 - p_N) * true_N).sum()
        losses.append((1 - hits / (hits + 0.3 * alarms + 0.7 * misses)) ** 0.75)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(build_loss("focal-tversky")(logits, target), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_lovasz_is_the_extension_of_the_jaccard_loss(seed: int) -> None:
    """The definition (Berman et al. 2018, eq. 8 and 9): errors times the steps of the set function."""
    logits, target = batch(seed=seed)
    losses = []
    for p_N, true_N in zip(*annotated_only(logits, target), strict=True):
        error_N = (true_N - p_N).abs().tolist()
        order = sorted(range(len(error_N)), key=lambda pixel: -error_N[pixel])
        truth = {pixel for pixel, there in enumerate(true_N.tolist()) if there}
        wrong: set[int] = set()
        value, before = 0.0, 0.0
        for pixel in order:
            wrong = wrong | {pixel}
            after = 1 - len(truth - wrong) / len(truth | wrong)
            value, before = value + error_N[pixel] * (after - before), after
        losses.append(value)
    expected = torch.tensor(sum(losses) / len(losses))
    torch.testing.assert_close(build_loss("lovasz")(logits, target), expected, rtol=0, atol=1e-5)


def test_lovasz_of_certain_answers_is_one_minus_iou() -> None:
    _, target = batch()
    said = torch.randint(0, 3, target.shape, generator=torch.Generator().manual_seed(5))
    known, ious = target != IGNORE, []
    for index in range(3):
        found, true = known & (said == index), target == index
        ious.append((found & true).sum() / (found | true).sum())
    logits = 60 * functional.one_hot(said, 3).movedim(-1, 1).float()
    value = build_loss("lovasz")(logits, target)
    torch.testing.assert_close(value, 1 - torch.stack(ious).mean(), rtol=0, atol=1e-5)


def test_the_boundary_loss_is_kervadecs_but_for_a_constant() -> None:
    """Its gradient is that of the sum of probabilities times signed distances, negative inside."""
    logits, target = batch(classes=2, seed=3)
    target = target.clamp(min=0)
    signed = torch.where(target[:, None] == torch.arange(2)[:, None, None], -1.0, 1.0)
    signed = signed * border_distances(target, 2)
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad((signed * leaf.softmax(1)).mean(), leaf)
    (gradient,) = torch.autograd.grad(build_loss("boundary")(leaf, target), leaf)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-5)


def test_distances_are_those_to_the_nearest_pixel_on_the_other_side() -> None:
    _, target = batch(seed=8)
    distance = border_distances(target, 4)
    assert not distance[:, 3].any(), "a class without a pixel has no border"
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    place = torch.stack([rows.flatten(), columns.flatten()], 1)
    apart = torch.cdist(place, place)
    for plane, found in zip(target.flatten(1), distance.flatten(2), strict=True):
        for index in range(3):
            inside = plane == index
            outside = ~inside & (plane != IGNORE)
            nearest = torch.where(inside, apart[:, outside].amin(1), apart[:, inside].amin(1))
            torch.testing.assert_close(found[index], nearest, rtol=0, atol=1e-4)
