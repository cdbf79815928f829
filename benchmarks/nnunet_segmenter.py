"""nnU-Net's predictor on its own network, as `nnUNetv2_predict` applies it without mirroring."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from benchmarks.nnunet_trainee import CONFIGURATION, _plans, _standardised
from benchmarks.trainee import Recipe


def nnunet_segmenter(recipe: Recipe, channels: int, classes: int) -> Callable[[np.ndarray], torch.Tensor]:
    """Return what makes logits `(K, Y, X)` of an image `(C, Y, X)`, in steps of half a tile."""
    plans = PlansManager(_plans(recipe, channels))
    configuration = plans.get_configuration(CONFIGURATION)
    network = nnUNetTrainer.build_network_architecture(plans, configuration, channels, classes, False)
    device = torch.device(recipe.device)
    predictor = nnUNetPredictor(
        use_mirroring=False,
        device=device,
        perform_everything_on_device=device.type != "cpu",
        allow_tqdm=False,
    )
    names = {"background": 0, **{f"class{number}": number for number in range(1, classes)}}
    predictor.manual_initialization(
        network.to(device).eval(), plans, configuration, None, {"labels": names}, "nnUNetTrainer", None
    )

    def segment(image_CYX: np.ndarray) -> torch.Tensor:
        ready = torch.from_numpy(_standardised(image_CYX))[:, None]
        return predictor.predict_sliding_window_return_logits(ready)[:, 0]

    return segment
