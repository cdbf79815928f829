"""Says whether weights and configuration belong together: `python -m segcore.models.check WEIGHTS [CONFIG]`.

The answer is one JSON object on stdout. The web app asks in a process of its own, so that a foreign file is
never opened in the server.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from segcore.addresses import FOREIGN
from segcore.errors import SegcoreError
from segcore.models.saved import LoadedModel, find_model, load_model
from segcore.sidecar import made_elsewhere


def check_model(weights: Path, config: Path | None = None) -> dict[str, Any]:
    """Load a model and describe it; what is wrong with it comes back as text, not as an exception.

    Parameters
    ----------
    weights : Path
        A `.pth` file, a run folder, or a model of another program.
    config : Path, optional
        The `config.json`, or the description of a model of another program, where it does not lie beside it.

    Returns
    -------
    dict
        `ok`, `message`, `remedy`; `summary` describes the model and is empty unless `ok`.
    """
    try:
        model = load_model(*find_model(weights, config))
    except SegcoreError as error:
        return {"ok": False, "message": error.message, "remedy": error.remedy, "summary": {}}
    card = model.card
    values = ", ".join(str(value) for value in card.class_values)
    learned = f"classes {values}" if card.head is None else f"objects ({card.head.name})"
    return {
        "ok": True,
        "message": f"{_kind(model)}, {learned}.",
        "remedy": "",
        "summary": {
            **_origin(model),
            "mode": card.mode,
            "channels": card.channels,
            "class_values": list(card.class_values),
            "class_names": list(card.class_names),
            **({} if card.head is None else {"head": card.head.name}),
            "parameters": card.parameters,
            "sha256": model.sha256,
        },
    }


def _kind(model: LoadedModel) -> str:
    """Return what a network is, in words."""
    options, mode = model.config.model, model.card.mode
    if made_elsewhere(model.weights):
        return f"A network of another program ({FOREIGN[model.weights.suffix.lower()]}, {mode})"
    kind = options.kind.title if mode == "2d" else f"{options.kind.title} ({mode})"
    return f"{kind} with {options.size_text}" if options.size_text else kind


def _origin(model: LoadedModel) -> dict[str, Any]:
    """Return where a model comes from, and the options of its network."""
    if made_elsewhere(model.weights):
        return {"format": FOREIGN[model.weights.suffix.lower()]}
    return {"session": model.config.session, **model.config.model.shape}


def main(arguments: list[str]) -> int:
    """Write the answer for the paths in `arguments` to stdout."""
    paths = [Path(argument) for argument in arguments]
    sys.stdout.write(json.dumps(check_model(*paths[:2]), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
