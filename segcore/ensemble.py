"""Averages: several models, or several orientations of an image, as if they were one predictor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from segcore.card import ModelCard, Normalization
from segcore.config import RunConfig
from segcore.devices import Hardware
from segcore.errors import ConfigError, ModelError
from segcore.models.saved import LoadedModel, find_model, load_model
from segcore.models.segmenter import Segmenter
from segcore.predictor import Predictor
from segcore.tiling import align


class Averaged(Predictor):
    """Predicts the mean probability of its members, on request over four orientations of the image each.

    Its logits are the logarithms of the mean probabilities; of models that learned objects, the mean of the
    maps that their head makes objects of. Every member normalises as it was trained; tiles and blocks suit
    all members at once, so that they give the whole image here, too.

    Parameters
    ----------
    members : sequence of Predictor
        At least one, all on the same hardware.
    flips : bool
        Whether rows and columns are also reversed (Ronneberger et al. 2015 train with such variations; the
        average over them is usual since Simonyan and Zisserman 2015).

    Raises
    ------
    ModelError
        The models do not fit together.
    ConfigError
        They answer whole objects, of which there is no average.
    """

    def __init__(self, members: Sequence[Predictor], flips: bool = False) -> None:
        first = members[0]
        if first.answers:
            raise ConfigError(
                f"{'inference.flips' if flips else 'inference.ensemble'} cannot be used with a network that "
                "answers whole objects: it numbers them anew every time, and numbers have no average.",
                "Leave inference.flips and inference.ensemble out, or train with the head boundary or flows.",
            )
        for member in members[1:]:
            _check_fit(first.card, member.card)
        together = _Together([member.network for member in members])
        super().__init__(together, first.card, first.hardware, first.tile_size)
        self.members = tuple(members)
        self.flips = flips

    def refresh(self) -> None:
        """Look at the networks anew."""
        for member in self.members:
            member.refresh()

    def _room(self) -> int:
        return min(member._room() for member in self.members)

    def _predict(
        self,
        images: Sequence[np.ndarray],
        normalization: Normalization | None,
        keep: Sequence[slice] | None,
    ) -> Tensor:
        """Return the logarithm of the mean probability; see `Predictor._predict`."""
        axes = list(product((False, True), repeat=2)) if self.flips else [(False, False)]
        total: Tensor | None = None
        for member in self.members:
            for flipped in axes:
                turned = [axis for axis, turn in zip((-2, -1), flipped, strict=True) if turn]
                share = self._turned(member, images, normalization, keep, turned)
                total = share if total is None else total.add_(share)
        assert total is not None
        total /= len(self.members) * len(axes)
        if self.head is not None:
            return total
        return total.clamp_(min=torch.finfo(total.dtype).tiny).log_()

    def maps(self, output: Tensor) -> np.ndarray:
        """Return the mean of the members' maps, which the output is already."""
        return output.cpu().numpy()

    def _turned(
        self,
        member: Predictor,
        images: Sequence[np.ndarray],
        normalization: Normalization | None,
        keep: Sequence[slice] | None,
        axes: Sequence[int],
    ) -> Tensor:
        """Return what a member says of images reversed along some axes, turned back."""
        if not axes:
            return _meaning(member, member._predict(images, normalization, keep))
        sizes, steps = images[0].shape[1:], self.network.divisors
        kept = list(keep) if keep else [slice(0, size) for size in sizes]
        # Filled up first: else what the network shrinks together would depend on where a tile ends.
        missing = [0] * len(sizes)
        for axis in axes:
            whole = align(sizes[axis], steps[axis])
            start, stop, _ = kept[axis].indices(sizes[axis])
            missing[axis], kept[axis] = whole - sizes[axis], slice(whole - stop, whole - start)
        filled = [np.pad(image, [(0, 0), *((0, amount) for amount in missing)], "edge") for image in images]
        reversed_images = [np.ascontiguousarray(np.flip(image, tuple(axes))) for image in filled]
        found = _meaning(member, member._predict(reversed_images, normalization, kept))
        return found.flip(list(axes)) if self.head is None else self._flipped(found, axes)

    def _flipped(self, maps: Tensor, axes: Sequence[int]) -> Tensor:
        """Return the maps of reversed images for the images as they are: rays and flows turn, too.

        Raises
        ------
        ConfigError
            The head has no such maps.
        """
        assert self.head is not None
        turned = []
        for each in maps.cpu().numpy():
            for axis in axes:
                each = self.head.flip(each, each.ndim - 1 + axis)
            turned.append(np.ascontiguousarray(each))
        return torch.from_numpy(np.stack(turned)).to(maps.device)


class _Together(Segmenter):
    """What tiles must know of several networks at once; it has no weights and predicts nothing.

    Parameters
    ----------
    networks : sequence of Segmenter
        At least one; all have the same axes, channels and classes.
    """

    def __init__(self, networks: Sequence[Segmenter]) -> None:
        super().__init__(networks[0].channels, networks[0].classes)
        steps = zip(*(network.divisors for network in networks), strict=True)
        radii = zip(*(network.receptive_radii for network in networks), strict=True)
        self.divisors = tuple(math.lcm(*of_axis) for of_axis in steps)
        self.receptive_radii = tuple(max(of_axis) for of_axis in radii)
        self.is_local = all(network.is_local for network in networks)
        self._networks = tuple(networks)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory that the most demanding network needs per pixel: they predict in turn."""
        return max(network.bytes_per_pixel(itemsize) for network in self._networks)


def _meaning(member: Predictor, output: Tensor) -> Tensor:
    """Return what can be averaged: probabilities, or the maps of its head."""
    return torch.softmax(output, 1) if member.head is None else member.head.activate(output)


def build_predictor(
    config: RunConfig,
    model: LoadedModel,
    hardware: Hardware,
    others: Sequence[LoadedModel] | None = None,
) -> Predictor:
    """Return what applies a model as the options say: plain, over flips, or together with further models.

    Parameters
    ----------
    config : RunConfig
        `inference.flips`, `inference.ensemble`, `inference.backend` and `inference.tile_size` count.
    model : LoadedModel
        The first model, on the device.
    hardware : Hardware
        Where to compute.
    others : sequence of LoadedModel, optional
        The further models; by default those that `inference.ensemble` names are loaded.

    Raises
    ------
    ModelError
        A further model is missing, unusable, or does not fit the first.
    ConfigError
        OpenVINO is asked for and not installed, or an average of networks that answer whole objects.
    """
    options = config.inference
    if others is None:
        others = [load_model(*find_model(name), hardware) for name in options.ensemble]
    members = [
        Predictor(each.network, each.card, hardware, options.tile_size, options.backend)
        for each in (model, *others)
    ]
    return Averaged(members, options.flips) if others or options.flips else members[0]


def _check_fit(first: ModelCard, other: ModelCard) -> None:
    """Raise if the predictions of two models cannot be averaged, naming everything that differs."""
    what = {
        "class values": (first.class_values, other.class_values),
        "what is learned": (_kind(first), _kind(other)),
        "channels": (first.channels, other.channels),
        "mode": (first.mode, other.mode),
        "slices seen together": (first.context_slices, other.context_slices),
        "spacing of these slices": (first.context_spacing, other.context_spacing),
        "strides": (first.strides, other.strides),
        "statistics of every image or of the set": (first.normalization.per, other.normalization.per),
    }
    if first.normalization.per == "image":
        what["normalisation"] = (first.normalization.kind, other.normalization.kind)
    different = [f"{name} ({one} and {two})" for name, (one, two) in what.items() if one != two]
    if different:
        raise ModelError(
            f"The models of inference.ensemble do not fit together: they differ in {', '.join(different)}.",
            "Choose models of the same kind, for example the folds of one training.",
        )


def _kind(card: ModelCard) -> str:
    """Return head and number of maps in words."""
    return f"{card.head.name}, {card.head.maps} maps" if card.head else "classes"
