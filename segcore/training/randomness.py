"""The state of every generator of random numbers that a step could draw from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

_MERSENNE = "MT19937"


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch, from which a network may draw, and return the run's own generator."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def random_state(generator: torch.Generator) -> dict[str, Any]:
    """Return the state of the run's own generator and of those of Python, NumPy and torch.

    Tensors and plain numbers only, so that a checkpoint can be read without unpickling.
    """
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    content = {
        "run": generator.get_state(),
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }
    if numpy["bit_generator"] == _MERSENNE:
        content["numpy"] = {
            "words": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "place": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        }
    return content


def restore_random_state(content: dict[str, Any], generator: torch.Generator) -> None:
    """Put all generators back to where they were; those of devices that are not there are left out."""
    generator.set_state(content["run"])
    python = content["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    torch.set_rng_state(content["torch"])
    if content["cuda"] and torch.cuda.is_available():
        for device, state in enumerate(content["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
    if "numpy" in content:
        numpy = content["numpy"]
        words = numpy["words"].numpy().astype(np.uint32)
        np.random.set_state((_MERSENNE, words, numpy["place"], numpy["has_gauss"], numpy["gauss"]))
