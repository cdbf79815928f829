"""What `segcore train` says about memory before it starts: calculated, and said only if it matters."""

from __future__ import annotations

import sys

from segcore.config import RunConfig
from segcore.data.collection import open_collection
from segcore.estimate import read_machine
from segcore.footprint import estimate_here
from segcore.workspace import Workspace


def warn_of_memory(config: RunConfig, workspace: Workspace) -> None:
    """Warn on stderr if a training will probably need more memory than there is, with the settings that fit.

    Parameters
    ----------
    config : RunConfig
        `data.images` and `data.labels` are files that passed the check.
    workspace : Workspace
        Knows which device computes.
    """
    stack = open_collection(config.data).stack_size
    need = estimate_here(config, stack, read_machine(workspace))
    if need is None or need.ratio <= 1:
        return
    fitting = " ".join(f"--{path.replace('_', '-')} {value}" for path, value in (need.proposal or {}).items())
    advice = f"These would fit: {fitting}" if fitting else "Close other programs, or train on fewer slices."
    sys.stderr.write(
        f"warning: the training needs about {need.need / 1e9:.1f} GB of memory, {need.have / 1e9:.1f} GB are "
        f"free. {advice}\n"
    )
