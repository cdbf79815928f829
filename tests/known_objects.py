"""A network that answers prompts without a fault, on planes that are label images; and tiny real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from segcore.promptable.cache import plane_key
from segcore.promptable.promptable import Embedding, Masks, Prompt

SIDE = 64


class KnownObjects:
    """Answers the object that lies at a point, a soft cloud, and all there is; it counts what it embeds.

    Beyond the plane, where the network sees padding, it answers rubbish.
    """

    def __init__(self, key: str = "known", share: tuple[float, float] = (1.0, 0.75)) -> None:
        self.key, self.share, self.embedded = key, share, 0

    def embed(self, plane: np.ndarray) -> Embedding:
        """Return the plane itself."""
        self.embedded += 1
        labels = plane.reshape(plane.shape[-2:])
        return Embedding(plane_key(plane, self.key), labels.shape, self.share, (labels.astype(np.float16),))

    def mask(self, embedding: Embedding, prompt: Prompt) -> Masks:
        """Return the masks at the first point."""
        points = np.asarray(prompt.points or [(prompt.box[0], prompt.box[1])])[:1]
        logits, scores = self.at_points(embedding, points)
        order = np.argsort(-scores[0])
        masks = np.stack([self.enlarged(embedding, one) > 0 for one in logits[0][order]])
        return Masks(masks, scores[0][order], logits[0][order])

    def at_points(self, embedding: Embedding, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the object, the cloud and everything, for each point."""
        labels = embedding.features[0]
        inner = tuple(round(SIDE * share) for share in embedding.share)
        small = _nearest(labels, inner)
        logits = np.full((len(points), 3, SIDE, SIDE), 9.0, np.float32)
        scores = np.tile(np.array([0.95, 0.99, 1.0], np.float32), (len(points), 1))
        for at, (row, column) in enumerate(np.round(points).astype(int)):
            number = labels[row, column]
            logits[at, 0, : inner[0], : inner[1]] = np.where(small == number, 8.0, -8.0)
            logits[at, 1, : inner[0], : inner[1]] = 0.5  # not stable
            scores[at, 0] = 0.95 if number else 0.2
        return logits, scores

    def enlarged(self, embedding: Embedding, logits: np.ndarray) -> np.ndarray:
        """Return logits at the size of the plane."""
        inner = tuple(round(SIDE * share) for share in embedding.share)
        return _nearest(logits[: inner[0], : inner[1]], embedding.size)


def _nearest(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    rows, columns = (
        ((np.arange(wanted) + 0.5) * given / wanted).astype(int)
        for wanted, given in zip(size, image.shape, strict=True)
    )
    return image[rows[:, None], columns]


def write_sam(folder: Path) -> Path:
    """Write a tiny SAM with random weights as transformers does."""
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    vision = SamVisionConfig(
        hidden_size=32, output_channels=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=8, window_size=2, global_attn_indexes=[1], num_pos_feats=16, mlp_dim=64,
        initializer_range=0.2,
    )  # fmt: skip
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=32, image_size=SIDE, patch_size=8),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=32
        ),
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    SamModel(config).save_pretrained(folder)
    return folder


def write_sam2(folder: Path) -> Path:
    """Write a tiny SAM 2 with random weights as transformers does."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[SIDE, SIDE], blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 4],
        window_size_per_stage=[4, 4, 2, 2], global_attention_blocks=[4],
        window_positional_embedding_background_size=[2, 2], initializer_range=0.2,
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], initializer_range=0.2,
    )  # fmt: skip
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=SIDE, patch_size=16),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=32
        ),
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    Sam2Model(config).save_pretrained(folder)
    return folder


def write_sam2_video(folder: Path) -> Path:
    """Write the network of `write_sam2` as part of one for videos, as the published ones are."""
    from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel

    images = Sam2Model.from_pretrained(write_sam2(folder / "images"))
    parts = {
        name: getattr(images.config, name).to_dict()
        for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    }
    config = Sam2VideoConfig(
        **parts, image_size=SIDE, memory_attention_hidden_size=32, memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16, memory_attention_num_layers=1,
    )  # fmt: skip
    video = Sam2VideoModel(config)
    video.load_state_dict(images.state_dict(), strict=False)
    video.save_pretrained(folder)
    return folder


def write_sam3(folder: Path) -> Path:
    """Write what answers clicks of a tiny SAM 3 with random weights, as transformers does."""
    from transformers import (
        Sam3TrackerConfig,
        Sam3TrackerMaskDecoderConfig,
        Sam3TrackerModel,
        Sam3TrackerPromptEncoderConfig,
        Sam3VisionConfig,
        Sam3ViTConfig,
    )

    backbone = Sam3ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56,
        patch_size=14, window_size=2, global_attn_indexes=[1], pretrain_image_size=28,
    )  # fmt: skip
    vision = Sam3VisionConfig(
        backbone_config=backbone, fpn_hidden_size=32, scale_factors=[4.0, 2.0, 1.0],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )  # fmt: skip
    config = Sam3TrackerConfig(
        vision_config=vision,
        prompt_encoder_config=Sam3TrackerPromptEncoderConfig(hidden_size=32, image_size=56, patch_size=14),
        mask_decoder_config=Sam3TrackerMaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=32
        ),
    )
    torch.manual_seed(0)
    Sam3TrackerModel(config).save_pretrained(folder)
    return folder
