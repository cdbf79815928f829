"""What surrounds Mask R-CNN: images come in at a size, and masks come out at the size of their boxes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes


class AsItIs(GeneralizedRCNNTransform):
    """Prepares images: the brightness is as this program has made it, the size larger by a factor.

    The masks that are found stay as small as the network answers them: full ones would take as many images as
    there are objects.
    """

    def __init__(self, enlarge: float) -> None:
        super().__init__(min_size=1, max_size=1, image_mean=[0.0], image_std=[1.0])
        self.enlarge = enlarge

    def normalize(self, image: Tensor) -> Tensor:
        """Return the image."""
        return image

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Enlarge an image `C Y X` and the boxes and masks of its objects."""
        before = list(image.shape[-2:])
        after = [max(1, round(side * self.enlarge)) for side in before]
        if after == before:
            return image, target
        larger = functional.interpolate(image[None], after, mode="bilinear", align_corners=False)[0]
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], before, after)
            target["masks"] = functional.interpolate(target["masks"][:, None].float(), after)[:, 0].byte()
        return larger, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Return what was found with boxes in px of the image."""
        for found, enlarged, size in zip(result, image_shapes, original_image_sizes, strict=False):
            found["boxes"] = resize_boxes(found["boxes"], enlarged, size)
        return result


def crop_of(mask: Tensor, box: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return the mask of an object at the size of its box, and row and column where it begins.

    As torchvision pastes it (a pixel of nothing is put around, so that the edge does not end abruptly), but
    only the part that it fills.

    Parameters
    ----------
    mask : Tensor
        `(M, M)`, 0 to 1.
    box : Tensor
        Left, top, right, bottom, px.
    """
    padded, scale = expand_masks(mask[None], 1)
    left, top, right, bottom = expand_boxes(box[None], scale)[0].long().tolist()
    size = [max(1, bottom - top + 1), max(1, right - left + 1)]
    filled = functional.interpolate(padded[None], size, mode="bilinear", align_corners=False)[0, 0]
    return filled, (top, left)
