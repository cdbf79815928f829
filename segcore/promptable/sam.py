"""SAM (arXiv 2304.02643), SAM 2 (2408.00714) and the clicks of SAM 3 of transformers, as a `Promptable`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segcore.devices import Hardware
from segcore.errors import DataError, ModelError
from segcore.models.encoder_weights import FILES, fetch, hub_id
from segcore.models.library_voice import quiet
from segcore.promptable.cache import plane_key
from segcore.promptable.promptable import Embedding, Masks, Prompt

DARKEST, BRIGHTEST = 0.5, 99.5
"""Percentiles of a plane that become black and white."""
COLOURS = 3
ELSEWHERE = "Download its folder where there is a network, copy it here, and choose the folder."


class Kind(NamedTuple):
    """How a generation of networks is called in transformers, and how it sees an image."""

    network: str
    keeps_shape: bool
    """Whether the image is padded to a square; else it is stretched."""
    mean: tuple[float, float, float]
    spread: tuple[float, float, float]


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
KINDS = {
    "sam": Kind("SamModel", True, *_IMAGENET),
    "sam2": Kind("Sam2Model", False, *_IMAGENET),
    "sam2_video": Kind("Sam2Model", False, *_IMAGENET),
    "sam3_tracker": Kind("Sam3TrackerModel", False, *_HALF),
    "sam3_video": Kind("Sam3TrackerModel", False, *_HALF),
}
"""By what the config.json of a checkpoint calls itself; those of videos hold the network for images, too."""


class Sam:
    """A network of the SAM family; satisfies `Promptable`.

    Prompts are answered in float32, since the sign of small logits decides.

    Parameters
    ----------
    network : Module
        Of transformers.
    kind : Kind
        Which generation it is.
    key : str
        A hash of its weights.
    hardware : Hardware
        Where it computes, and in which format it looks at planes: the short one takes half the time.
    """

    def __init__(self, network: Any, kind: Kind, key: str, hardware: Hardware) -> None:
        self._network = network.to(hardware.device).eval()
        self._kind, self.key = kind, f"{key} {hardware.dtype}"
        self._device, self._dtype = hardware.device, hardware.dtype
        prompts = network.config.prompt_encoder_config
        self._side: int = prompts.image_size
        self._few: int = 4 * (prompts.image_size // prompts.patch_size)

    @torch.inference_mode()
    def embed(self, plane: np.ndarray) -> Embedding:
        """Return what it makes of a plane; see `Promptable`."""
        image, share = self._seen(torch.from_numpy(colours(plane)).to(self._device))
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            found = self._network.get_image_embeddings(image)
        features = tuple(found) if isinstance(found, list | tuple) else (found,)
        halves = tuple(one.half().cpu().numpy() for one in features)
        rows, columns = plane.shape[-2:]
        return Embedding(plane_key(plane, self.key), (rows, columns), share, halves)

    def mask(self, embedding: Embedding, prompt: Prompt) -> Masks:
        """Return the masks of one object; see `Promptable`.

        A lone point may mean a part or the whole, so three masks are answered to it; else there is one.
        """
        several = prompt.box is None and len(prompt.points) == 1 and prompt.logits is None
        labels = np.asarray(prompt.labels, np.int64)[None]
        points = np.asarray(prompt.points, np.float64).reshape(1, -1, 2)
        logits, scores = self._answer(embedding, points, labels, prompt, several)
        order = np.argsort(-scores[0], kind="stable")
        small = logits[0][order]
        masks = np.stack([self.enlarged(embedding, one) > 0 for one in small])
        return Masks(masks, scores[0][order], small)

    def at_points(self, embedding: Embedding, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and scores of the objects at points; see `Promptable`."""
        labels = np.ones((len(points), 1), np.int64)
        return self._answer(embedding, points[:, None], labels, None, True)

    @torch.inference_mode()
    def enlarged(self, embedding: Embedding, logits: np.ndarray) -> np.ndarray:
        """Return logits at the size of the plane; see `Promptable`."""
        small = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32))[None, None].to(self._device)
        if embedding.share != (1.0, 1.0):
            side = self._side
            whole = functional.interpolate(small, (side, side), mode="bilinear", align_corners=False)
            rows, columns = (round(share * side) for share in embedding.share)
            small = whole[:, :, :rows, :columns]
        full = functional.interpolate(small, embedding.size, mode="bilinear", align_corners=False)
        return full[0, 0].cpu().numpy()

    def _seen(self, image: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """Return a picture `3 Y X` as the network sees it, `1 3 side side`, and which share of that it is."""
        side, kind = self._side, self._kind
        inner = self._inner(image.shape[1], image.shape[2])
        smaller = functional.interpolate(
            image[None], inner, mode="bilinear", align_corners=False, antialias=True
        )
        mean, spread = (
            torch.tensor(values, device=image.device)[:, None, None] for values in (kind.mean, kind.spread)
        )
        padded = functional.pad((smaller - mean) / spread, (0, side - inner[1], 0, side - inner[0]))
        return padded, (inner[0] / side, inner[1] / side)

    def _inner(self, rows: int, columns: int) -> tuple[int, int]:
        """Return rows and columns that a plane has in what the network sees."""
        if not self._kind.keeps_shape:
            return self._side, self._side
        scale = self._side / max(rows, columns)
        return max(1, int(rows * scale + 0.5)), max(1, int(columns * scale + 0.5))

    @torch.inference_mode()
    def _answer(
        self,
        embedding: Embedding,
        points: np.ndarray,
        labels: np.ndarray,
        prompt: Prompt | None,
        several: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits `(p, n, y, x)` and scores `(p, n)` for p prompts of points `(p, k, 2)`."""
        given: dict[str, Any] = {}
        if points.shape[1]:
            given["input_points"] = self._places(embedding, points)
            given["input_labels"] = torch.from_numpy(labels)[None].to(self._device)
        if prompt is not None and prompt.box is not None:
            corners = np.asarray(prompt.box, np.float64).reshape(1, 2, 2)
            given["input_boxes"] = self._places(embedding, corners).reshape(1, 1, 4)
        if prompt is not None and prompt.logits is not None:
            earlier = torch.from_numpy(np.ascontiguousarray(prompt.logits, dtype=np.float32))
            size = (self._few, self._few)
            given["input_masks"] = functional.interpolate(
                earlier[None, None], size, mode="bilinear", align_corners=False
            ).to(self._device)
        features = [torch.from_numpy(one).float().to(self._device) for one in embedding.features]
        found = self._network(
            image_embeddings=features[0] if self._kind.network == "SamModel" else features,
            multimask_output=several,
            **given,
        )
        return found.pred_masks[0].float().cpu().numpy(), found.iou_scores[0].float().cpu().numpy()

    def _places(self, embedding: Embedding, points: np.ndarray) -> Tensor:
        """Return rows and columns `(p, k, 2)` of the plane as x and y `(1, p, k, 2)` of what is seen."""
        scale = np.asarray(embedding.share) * self._side / np.asarray(embedding.size)
        places = (points * scale)[..., ::-1].astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(places))[None].to(self._device)


def colours(plane: np.ndarray) -> np.ndarray:
    """Return a plane as a picture `(3, Y, X)`, float32, 0 to 1.

    One channel is repeated; of two the third colour is black; of more than three the first three are taken.
    Each channel is stretched by itself, but colours of 8 bits are left as they are.

    Parameters
    ----------
    plane : np.ndarray
        `(Y, X)` or `(C, Y, X)`, numbers of any type.

    Raises
    ------
    DataError
        It has other axes, or no pixels.
    """
    if plane.ndim not in (2, 3) or 0 in plane.shape:
        raise DataError(f"A plane of the shape {plane.shape} cannot be seen.", "Give one slice, YX or CYX.")
    channels = (plane[None] if plane.ndim == 2 else plane)[:COLOURS]
    if channels.dtype == np.uint8 and len(channels) == COLOURS:
        return channels.astype(np.float32) / 255
    seen = np.nan_to_num(channels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(seen, (DARKEST, BRIGHTEST), axis=(1, 2), keepdims=True)
    spread = np.where(high > low, high - low, 1)
    stretched = np.clip((seen - low) / spread, 0, 1).astype(np.float32)
    if len(stretched) == 1:
        return np.repeat(stretched, COLOURS, axis=0)
    black = np.zeros((COLOURS - len(stretched), *stretched.shape[1:]), np.float32)
    return np.concatenate([stretched, black])


def load_sam(reference: str, hardware: Hardware) -> Sam:
    """Load a network of the SAM family.

    Parameters
    ----------
    reference : str
        A folder as transformers writes it, or a hub id, for example `facebook/sam-vit-base` or
        `facebook/sam2.1-hiera-small`. From the hub only what is not in its cache is fetched.
    hardware : Hardware
        Where it computes.

    Raises
    ------
    ModelError
        It is not there, no network of this family, or cannot be read.
    """
    folder, weights = _find(reference)
    try:
        name = str(json.loads((folder / "config.json").read_text("utf-8")).get("model_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder / 'config.json'} cannot be read.", "Copy or download the whole folder again."
        ) from error
    if name not in KINDS:
        raise ModelError(
            f"{reference} is a network of the kind {name}, which answers no clicks.",
            "Use one of SAM, SAM 2 or SAM 3, for example facebook/sam-vit-base.",
        )
    kind = KINDS[name]
    import transformers

    if not hasattr(transformers, kind.network):
        raise ModelError(
            f"The installed transformers {transformers.__version__} does not know {kind.network}.",
            "Update transformers, or use facebook/sam-vit-base.",
        )
    try:
        with quiet():
            network = getattr(transformers, kind.network).from_pretrained(
                folder, local_files_only=True, dtype=torch.float32
            )
    except Exception as error:  # damaged, cut off, written by another version
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{reference} cannot be read: {reason}", "Copy or download the whole folder again."
        ) from error
    return Sam(network, kind, _stamp(folder / "config.json", weights), hardware)


def _find(reference: str) -> tuple[Path, Path]:
    """Return the folder of a network and its file of weights."""
    if named := hub_id(reference):
        repository, revision = named
        try:
            weights = fetch(repository, FILES[:2], revision)
            return fetch(repository, ["config.json"], revision).parent, weights
        except ModelError as error:
            raise ModelError(error.message, ELSEWHERE) from error
    folder = Path(reference).expanduser()
    for name in FILES[:2]:
        if (folder / name).is_file() and (folder / "config.json").is_file():
            return folder, folder / name
    raise ModelError(
        f"There is no network that answers clicks at {folder}: config.json and {FILES[0]} are needed.",
        "Give a folder as transformers writes it, or a hub id (owner/name): facebook/sam-vit-base, …",
    )


def _stamp(config: Path, weights: Path) -> str:
    """Return a hash of a network that costs nothing: its options, and name, size and time of its weights."""
    stat = weights.stat()
    facts = f"{weights.name} {stat.st_size} {stat.st_mtime_ns} {config.read_text('utf-8')}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]
