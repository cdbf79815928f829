"""The boundary loss: a wrong pixel costs its distance from the border it should not have crossed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segcore.losses.counting import Total, alone, mean_over_pixels, one_hot
from segcore.tiling import IGNORE


def boundary(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return the boundary loss (Kervadec et al. 2019, eq. 5), in px, averaged over pixels and classes.

    The probability of a class, less what it should be, times the distance to the class's border. The authors
    leave out "what it should be", a constant: the gradient is the same, and this is 0 for the right answer.
    Meant as a small part of a sum (0.01 to begin with), as it alone does not keep small objects.

    The distances of a plane are computed on the host, about 5 ms per class of 256 × 256 px.
    """
    difference = functional.softmax(logits.float(), dim=1)
    difference = difference - one_hot(target.flatten(1), logits.shape[1]).view_as(difference).float()
    distance = border_distances(target, logits.shape[1])
    return mean_over_pixels((difference.abs() * distance).mean(1), target, weight_K, total)


def border_distances(target: Tensor, classes: int) -> Tensor:
    """Return the distance in px of every pixel to the border of every class, `(B, K, …)`.

    Outside a class it is that to its nearest pixel, inside that to the nearest pixel of another class; 0 for
    a class without a pixel in the plane, or without a pixel of another one. Planes of a volume are looked at
    one by one. A pixel without annotation is of no class, and makes no border.

    Parameters
    ----------
    target : Tensor
        Class indices `(B, …, Y, X)`.
    classes : int
        Number of classes K.
    """
    from scipy.ndimage import distance_transform_edt

    planes = target.detach().cpu().numpy().reshape(-1, *target.shape[-2:])
    distance = np.zeros((len(planes), classes, *planes.shape[1:]), np.float32)
    for plane_YX, distance_KYX in zip(planes, distance, strict=True):
        for index in range(classes):
            inside = plane_YX == index
            others = (plane_YX != index) & (plane_YX != IGNORE)
            if inside.any() and others.any():
                distance_KYX[index] = np.where(
                    inside, distance_transform_edt(~others), distance_transform_edt(~inside)
                )
    shape = (len(target), -1, classes, *target.shape[-2:])
    whole = torch.from_numpy(distance).to(target.device).view(shape).transpose(1, 2)
    return whole.reshape(len(target), classes, *target.shape[1:])
