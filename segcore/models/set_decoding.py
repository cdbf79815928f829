"""From the answers of queries to maps and objects: how networks that predict sets are read.

A query answers one class, or none, and one mask. The rules are those of Mask2Former (Cheng et al. 2022, arXiv
2112.01527, with its code), which DETR (Carion et al. 2020, arXiv 2005.12872) shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segcore.models.painting import Objects, Painter

HALF = 0.5
"""From this probability on a pixel belongs to a mask."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What the q queries of one image answer.

    Parameters
    ----------
    classes : Tensor
        `(q, k + 1)`, logits of k classes and of none.
    masks : Tensor
        `(q, y, x)`, logits, smaller than the image.
    size : (int, int)
        Rows and columns that the masks stand for, px.
    """

    classes: Tensor
    masks: Tensor
    size: tuple[int, int]

    def mask(self, query: int) -> Tensor:
        """Return the probabilities `(Y, X)` of one mask at the size of the image."""
        small = self.masks[query][None, None]
        return functional.interpolate(small, self.size, mode="bilinear", align_corners=False)[0, 0].sigmoid()


def class_maps(classes: Tensor, masks: Tensor) -> Tensor:
    """Return how much of a class every pixel is, `B K Y X`: the sum over queries of class times mask.

    Parameters
    ----------
    classes : Tensor
        `B Q K+1`, logits, the last of no object.
    masks : Tensor
        `B Q Y X`, logits.
    """
    return torch.einsum("bqk,bqyx->bkyx", classes.softmax(-1)[..., :-1], masks.sigmoid())


def object_maps(classes: Tensor, masks: Tensor) -> Tensor:
    """Return the same with background before it, `B 1+K Y X`: of objects the most certain one counts.

    Parameters
    ----------
    classes, masks : Tensor
        As in `class_maps`.
    """
    scores, inside = classes.softmax(-1)[..., :-1], masks.sigmoid()
    maps = [(scores[..., kind, None, None] * inside).amax(1) for kind in range(scores.shape[-1])]
    found = torch.stack(maps, 1)
    return torch.cat([1 - found.amax(1, keepdim=True), found], 1)


def instances(answers: Answers, shape: tuple[int, int], threshold: float, least: int = 1) -> Objects:
    """Return objects of classes 1, 2, …: of the likeliest classes of queries those that are certain enough.

    An object is as certain as its class times the mean probability within its mask. Where masks overlap the
    more certain one stays.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the result, at most those of the answers.
    threshold : float
        Least score of an object, 0 to 1.
    least : int
        Fewest px of an object.
    """
    scores = answers.classes.softmax(-1)[:, :-1]
    count, kinds = scores.shape
    best, places = scores.flatten().topk(min(count, scores.numel()))
    queries = places // kinds
    inside = answers.masks[queries] > 0
    probability = answers.masks[queries].sigmoid() * inside
    sizes = inside.sum((1, 2))
    certain = best * probability.sum((1, 2)) / sizes.clamp(min=1)
    painter = Painter(shape, least=least)
    for at in certain.argsort(descending=True, stable=True).tolist():
        if certain[at] < threshold or not sizes[at]:
            continue
        mask = answers.mask(int(queries[at]))[: shape[0], : shape[1]] > HALF
        painter.add(mask.cpu().numpy(), (0, 0), float(certain[at]), int(places[at] % kinds) + 1)
    return painter.objects()


@dataclass(frozen=True)
class PanopticRule:
    """Which queries become segments.

    Parameters
    ----------
    stuff : tuple of int
        Classes of which an image has one segment at most.
    threshold : float
        Least probability of the class, 0 to 1.
    share : float
        Share of its mask, 0 to 1, that no other query must claim.
    least : int
        Fewest px of a segment.
    """

    stuff: tuple[int, ...]
    threshold: float = 0.5
    share: float = 0.8
    least: int = 1


def panoptic(answers: Answers, shape: tuple[int, int], rule: PanopticRule) -> Objects:
    """Return segments that cover the image as far as it is certain: number, class and score of each.

    A pixel belongs to the query whose class times mask is largest there.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the result, at most those of the answers.
    rule : PanopticRule
        Which queries become segments.
    """
    scores, kinds = answers.classes.softmax(-1).max(-1)
    nothing = answers.classes.shape[-1] - 1
    kept = ((kinds != nothing) & (scores > rule.threshold)).nonzero()[:, 0].tolist()
    best = torch.zeros(shape, device=answers.masks.device)
    owner = torch.full(shape, -1, device=best.device)
    for query in kept:
        claim = answers.mask(query)[: shape[0], : shape[1]] * scores[query]
        better = claim > best
        best[better], owner[better] = claim[better], query
    labels = np.zeros(shape, np.int32)
    found: list[tuple[int, float]] = []
    numbers: dict[int, int] = {}
    for query in kept:
        mask = answers.mask(query)[: shape[0], : shape[1]] >= HALF
        own = mask & (owner == query)
        size, kind = int(own.sum()), int(kinds[query])
        if size < max(1, rule.least) or size < rule.share * int(mask.sum()):
            continue
        number = numbers.get(kind, 0)
        if not number:
            found.append((kind, float(scores[query])))
            number = len(found)
            if kind in rule.stuff:
                numbers[kind] = number
        labels[own.cpu().numpy()] = number
    return Objects(
        labels,
        np.asarray([score for _, score in found], np.float32),
        np.asarray([kind for kind, _ in found], np.int64),
    )
