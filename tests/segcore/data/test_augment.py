"""Augmentation: chance 0 changes nothing, chance 1 always does, image and label stay together."""

import dataclasses

import pytest
import torch
from made_volumes import plain, plane_of

from segcore.data.augment import CHANCES, GEOMETRY, GREY, AugmentOptions, change_grey, draw, sampling_offsets
from segcore.data.patches import PatchPool
from segcore.data.sampling import PatchPlan, PatchSpot

CPU = torch.device("cpu")
SHAPE = (6, 1, 32, 32)


def only(name: str, **ranges) -> AugmentOptions:
    return dataclasses.replace(AugmentOptions.off(), **{name: 1.0}, **ranges)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image() -> torch.Tensor:
    return torch.rand(SHAPE[0], 1, 32, 32, generator=generator(5)) * 2 - 1


def plain_grid() -> torch.Tensor:
    return sampling_offsets(draw(AugmentOptions.off(), SHAPE, generator()), 32, CPU)


def test_off_changes_nothing():
    done = draw(AugmentOptions.off(), SHAPE, generator())
    assert torch.equal(change_grey(done, image()), image())
    line = torch.arange(32) - 15.5
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    assert torch.equal(
        sampling_offsets(done, 32, CPU), torch.stack([rows, columns], -1).expand(6, -1, -1, -1)
    )


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("seed", range(5))
def test_chance_one_moves_every_patch(name, seed):
    if name == "flip":  # each axis has its own chance; with chance 1 both are flipped
        offsets = sampling_offsets(draw(only("flip"), SHAPE, generator(seed)), 32, CPU)
        assert torch.equal(offsets, -plain_grid())
        return
    offsets = sampling_offsets(draw(only(name), SHAPE, generator(seed)), 32, CPU)
    moved = (offsets - plain_grid()).abs().amax((1, 2, 3))
    assert (moved > 1e-3).all()


@pytest.mark.parametrize("name", GREY)
@pytest.mark.parametrize("seed", range(5))
def test_chance_one_changes_the_grey_of_every_patch(name, seed):
    done = draw(only(name), SHAPE, generator(seed))
    changed = (change_grey(done, image()) - image()).abs().amax((1, 2, 3))
    assert (changed > 0).all()
    assert torch.equal(sampling_offsets(done, 32, CPU), plain_grid())


def test_the_same_draw_gives_the_same_result():
    options = AugmentOptions(**dict.fromkeys(CHANCES, 1.0))
    one, two = draw(options, SHAPE, generator(3)), draw(options, SHAPE, generator(3))
    assert torch.equal(sampling_offsets(one, 32, CPU), sampling_offsets(two, 32, CPU))
    assert torch.equal(change_grey(one, image()), change_grey(two, image()))


def pool_of(values: torch.Tensor, size: int) -> PatchPool:
    return PatchPool([plane_of(values.numpy()[None], values.numpy())], plain(1), CPU, PatchPlan(size=size))


def centre() -> PatchSpot:
    return PatchSpot(torch.tensor([0]), torch.tensor([[0]]), torch.tensor([[15.5, 15.5]]))


def test_image_and_label_go_through_the_same_geometry():
    # Grey values that equal the label on large flat areas: both must agree away from the borders.
    values = torch.zeros(96, 96, dtype=torch.uint8)
    values[20:70, 30:80] = 7
    pool = pool_of(values, 48)
    options = AugmentOptions(**dict.fromkeys(GEOMETRY, 1.0))
    for seed in range(8):
        done = draw(options, (4, 1, 48, 48), generator(seed))
        spot = pool.draw(torch.zeros(4, dtype=torch.long), generator(seed))
        image_BCYX, label_BYX = pool.cut(spot, sampling_offsets(done, 48, CPU))
        inside = (image_BCYX[:, 0] == 0) | (image_BCYX[:, 0] == 7)
        assert torch.equal(image_BCYX[:, 0][inside], label_BYX[inside].float())
        # A bilinear value below the middle must never carry the label of the far side by more than a pixel.
        assert ((image_BCYX[:, 0] - label_BYX).abs() <= 0.75 * 7).all()


def test_a_flip_done_twice_is_the_identity():
    options = only("flip")
    values = torch.arange(32 * 32, dtype=torch.int32).reshape(32, 32).float()
    offsets = sampling_offsets(draw(options, (1, 1, 32, 32), generator()), 32, CPU)
    once, _ = pool_of(values, 32).cut(centre(), offsets)
    assert not torch.equal(once[0, 0], values)
    twice, _ = pool_of(once[0, 0].contiguous(), 32).cut(centre(), offsets)
    assert torch.equal(twice[0, 0], values)


@pytest.mark.parametrize("seed", range(6))
def test_a_quarter_turn_is_exact(seed):
    values = torch.arange(32 * 32).reshape(32, 32).float()
    done = draw(only("quarter_turn"), (1, 1, 32, 32), generator(seed))
    turned, _ = pool_of(values, 32).cut(centre(), sampling_offsets(done, 32, CPU))
    assert any(torch.equal(turned[0, 0], torch.rot90(values, turns)) for turns in (1, 2, 3))


def test_depth_is_only_ever_reversed_and_only_where_there_is_depth():
    options = AugmentOptions(**dict.fromkeys(CHANCES, 1.0))
    assert not draw(options, SHAPE, generator()).reversed_B.any()
    assert draw(options, SHAPE, generator(), stacked=True).reversed_B.all()
    assert not draw(AugmentOptions.off(), SHAPE, generator(), stacked=True).reversed_B.any()
    one, other = (draw(options, SHAPE, generator(4), stacked) for stacked in (False, True))
    assert torch.equal(change_grey(one, image()), change_grey(other, image()))


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "blur"])
def test_a_block_of_slices_is_changed_as_its_slices_are(name):
    block = torch.rand(2, 1, 3, 32, 32, generator=generator(5)) * 2 - 1
    done = draw(only(name), block.shape, generator(1))
    slices = [change_grey(done, block[:, :, plane].clone()) for plane in range(3)]
    torch.testing.assert_close(change_grey(done, block.clone()), torch.stack(slices, 2))


def test_noise_differs_from_slice_to_slice():
    block = torch.zeros(1, 2, 3, 32, 32)
    noisy = change_grey(draw(only("noise"), block.shape, generator()), block)
    planes = noisy.flatten(0, 2).flatten(1)
    assert len({tuple(plane.tolist()) for plane in planes}) == 6
