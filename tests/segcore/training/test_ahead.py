"""Batches that are made ahead are those that would be made when they are asked for, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segcore.errors import DataError
from segcore.training.ahead import Ahead


def _make(unit_B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    noise = torch.rand(len(unit_B), 3, generator=generator)
    return noise + unit_B[:, None], unit_B


def test_order_and_random_numbers_do_not_depend_on_what_is_made_ahead() -> None:
    units = torch.arange(12).split(4)
    generator, other = (torch.Generator().manual_seed(3) for _ in range(2))
    ahead = Ahead()
    for number, unit_B in enumerate(units):
        expected = _make(unit_B, other)
        found = ahead.take(_make, unit_B, generator)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        assert torch.equal(generator.get_state(), other.get_state())
        if number < len(units) - 1:
            ahead.begin(_make, units[number + 1], generator)


@pytest.mark.parametrize("what", ["units", "generator"])
def test_what_does_not_fit_any_more_is_made_anew(what: str) -> None:
    generator, other = (torch.Generator().manual_seed(3) for _ in range(2))
    ahead = Ahead()
    ahead.begin(_make, torch.arange(4), generator)
    unit_B = torch.arange(4)
    if what == "units":
        unit_B = unit_B + 1
    else:
        torch.rand(1, generator=generator)
        torch.rand(1, generator=other)
    image, _ = ahead.take(_make, unit_B, generator)
    assert torch.equal(image, _make(unit_B, other)[0])
    assert torch.equal(generator.get_state(), other.get_state())


def test_what_goes_wrong_is_raised_where_the_batch_is_asked_for() -> None:
    def broken(unit_B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise DataError("The file is gone.")

    generator = torch.Generator()
    ahead = Ahead()
    ahead.begin(broken, torch.arange(2), generator)
    with pytest.raises(DataError, match="gone"):
        ahead.take(broken, torch.arange(2), generator)
