"""From object numbers to what networks that answer whole objects learn: masks, boxes, and classes.

Where nobody annotated there is nothing to be said about objects, but these networks answer for a whole image.
So what lies there is covered before they see it (`cover`): whatever is in the image changes neither loss nor
gradient, and an object ends where the annotation ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ObjectTarget:
    """The n objects of one image.

    Parameters
    ----------
    masks : Tensor
        `(n, Y, X)` bool.
    boxes : Tensor
        `(n, 4)` float32: left, top, right, bottom in px, the right and lower edge not in the box.
    classes : Tensor
        `(n,)` int64: class indices.
    """

    masks: Tensor
    boxes: Tensor
    classes: Tensor


def cover(image: Tensor, labels: Tensor) -> Tensor:
    """Return images `B C Y X` that are 0, the mean, wherever the labels `B Y X` say that nobody annotated."""
    return image.masked_fill((labels < 0)[:, None], 0.0)


def object_target(labels: Tensor, kinds: Tensor | None = None) -> ObjectTarget:
    """Return the objects of one image, in the order of their numbers.

    Parameters
    ----------
    labels : Tensor
        `(Y, X)`, whole numbers: 0 background, IGNORE (or any negative) unannotated, else an object each.
    kinds : Tensor, optional
        `(Y, X)`, class indices; an object is of the class that most of its pixels have, background left out.
        None: all are of class 1.
    """
    numbers = labels[labels > 0].unique()
    masks = labels[None] == numbers[:, None, None]
    classes = numbers.new_ones(len(numbers), dtype=torch.int64)
    if kinds is not None and len(numbers):
        classes = torch.stack([_most_frequent(kinds[mask]) for mask in masks])
    return ObjectTarget(masks, mask_boxes(masks), classes)


def class_target(classes: Tensor) -> ObjectTarget:
    """Return every class of a map `(Y, X)` of class indices as one object; what is unannotated is in none."""
    numbers = classes[classes >= 0].unique()
    masks = classes[None] == numbers[:, None, None]
    return ObjectTarget(masks, mask_boxes(masks), numbers.long())


def joined(first: ObjectTarget, second: ObjectTarget) -> ObjectTarget:
    """Return the objects of both."""
    return ObjectTarget(
        torch.cat([first.masks, second.masks]),
        torch.cat([first.boxes, second.boxes]),
        torch.cat([first.classes, second.classes]),
    )


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the boxes `(n, 4)` of masks `(n, Y, X)` none of which is empty, as in `ObjectTarget`."""
    sides = []
    for axis in (1, 2):  # over the rows remain the columns, and the other way round
        seen = masks.any(axis).to(torch.uint8)
        first = seen.argmax(1)
        last = seen.shape[1] - seen.flip(1).argmax(1)
        sides += [first, last]
    left, right, top, bottom = sides
    return torch.stack([left, top, right, bottom], 1).float()


def _most_frequent(kinds: Tensor) -> Tensor:
    counts = kinds.long().clamp(min=0).bincount(minlength=2)
    counts[0] = 0
    return counts.argmax().clamp(min=1)
