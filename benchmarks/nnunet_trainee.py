"""nnU-Net itself: its trainer's step, network, loader and augmentation, on plans of the size asked for.

Its experiment planner would choose other sizes, so the plans are written by hand; everything else is its
default, number format, deep supervision and processes included.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from benchmarks.trainee import Recipe, annotated_slices
from segcore.data.dataset import TrainingData

NAME, PLANS, CONFIGURATION = "Dataset001_Bench", "benchPlans", "2d"
RATE_POWER = 0.9
"""Of its polynomial schedule, here over the time there is instead of over 1000 epochs."""


class NnunetTrainee:
    """nnU-Net 2.8's `nnUNetTrainer`.

    Parameters
    ----------
    data : TrainingData
        Slices larger than a patch.
    recipe : Recipe
        Sizes.
    """

    def __init__(self, data: TrainingData, recipe: Recipe) -> None:
        self._folder = TemporaryDirectory()
        root = Path(self._folder.name)
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            os.environ[name] = str(root / name)
        dataset = {
            "channel_names": {str(index): "em" for index in range(data.channels)},
            "labels": {"background": 0, **{name: k for k, name in enumerate(data.class_names) if k}},
            "numTraining": len(data.train),
            "file_ending": ".tif",
        }
        plans = _plans(recipe, data.channels)
        _write_cases(root / "nnUNet_preprocessed" / NAME, data)
        with redirect_stdout(sys.stderr):
            self.trainer: Any = nnUNetTrainer(plans, CONFIGURATION, 0, dataset, torch.device(recipe.device))
            self.trainer.initialize()
            self.trainer.set_deep_supervision_enabled(True)
            self.trainer.network.train()
            self.batches, self._unused = self.trainer.get_dataloaders()

    def step(self, progress: float) -> None:
        """Fetch a batch and let the trainer take one step."""
        for group in self.trainer.optimizer.param_groups:
            group["lr"] = self.trainer.initial_lr * (1 - progress) ** RATE_POWER
        self.trainer.train_step(next(self.batches))

    def segment(self, image_CYX: np.ndarray) -> np.ndarray:
        """Return the class index of every pixel by its predictor: sliding window, Gaussian, no mirroring."""
        trainer = self.trainer
        predictor = nnUNetPredictor(
            use_mirroring=False, device=trainer.device, perform_everything_on_device=False, allow_tqdm=False
        )
        predictor.manual_initialization(
            trainer.network, trainer.plans_manager, trainer.configuration_manager, None,
            trainer.dataset_json, "nnUNetTrainer", None,
        )  # fmt: skip
        trainer.set_deep_supervision_enabled(False)
        trainer.network.eval()
        ready = torch.from_numpy(_standardised(image_CYX))[:, None]
        logits = predictor.predict_sliding_window_return_logits(ready)
        trainer.set_deep_supervision_enabled(True)
        trainer.network.train()
        result: np.ndarray = logits[:, 0].argmax(0).cpu().numpy()
        return result

    def close(self) -> None:
        """End the loaders' processes and remove its files."""
        for loader in (self.batches, self._unused):
            if hasattr(loader, "_finish"):
                loader._finish()
        self._folder.cleanup()


def _standardised(image_CYX: np.ndarray) -> np.ndarray:
    """Return the image with mean 0 and deviation 1, as nnU-Net's preprocessing does per case."""
    grey = image_CYX.astype(np.float32)
    return (grey - grey.mean()) / max(float(grey.std()), 1e-8)


def _write_cases(folder: Path, data: TrainingData) -> None:
    """Write every slice as a preprocessed case; the first serves as validation, which nobody reads."""
    from batchgenerators.utilities.file_and_folder_operations import save_json

    place = folder / f"{PLANS}_{CONFIGURATION}"
    place.mkdir(parents=True)
    names = []
    for number, (image, label) in enumerate(annotated_slices(data.train)):
        names.append(f"case_{number:03d}")
        places = {}
        for k in range(len(data.class_values)):
            pixel_N2 = np.argwhere(label == k)
            spread = np.linspace(0, len(pixel_N2) - 1, min(len(pixel_N2), 10_000)).astype(int)
            places[k] = np.insert(pixel_N2[spread], 0, np.zeros((2, 1), int), axis=1)
        block = (1, 1, *image.shape[1:])
        nnUNetDatasetBlosc2.save_case(
            _standardised(image)[:, None],
            label[None, None].astype(np.int8),
            {"class_locations": places},
            str(place / names[-1]),
            chunks=block,
            blocks=block,
        )
    save_json([{"train": names, "val": names[:1]}], str(folder / "splits_final.json"))


def _plans(recipe: Recipe, channels: int) -> dict[str, Any]:
    """Return plans with nnU-Net's own 2d architecture and the sizes asked for."""
    levels = recipe.layers + 1
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": list(recipe.widths),
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "kernel_sizes": [[3, 3]] * levels,
            "strides": [[1, 1], *[[2, 2]] * recipe.layers],
            "n_conv_per_stage": [2] * levels,
            "n_conv_per_stage_decoder": [2] * recipe.layers,
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": recipe.batch,
        "patch_size": [recipe.patch, recipe.patch],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "batch_dice": True,
        "architecture": architecture,
    }
    return {
        "dataset_name": NAME,
        "plans_name": PLANS,
        "continue_training": False,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
    }
