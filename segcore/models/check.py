"""Says whether weights and configuration belong together: `python -m segcore.models.check WEIGHTS [CONFIG]`.

The answer is one JSON object on stdout. The web app asks in a process of its own, so that a foreign file is
never opened in the server.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from segcore.errors import SegcoreError
from segcore.models.saved import find_model, load_model


def check_model(weights: Path, config: Path | None = None) -> dict[str, Any]:
    """Load a model and describe it; what is wrong with it comes back as text, not as an exception.

    Parameters
    ----------
    weights : Path
        A `.pth` file or a run folder.
    config : Path, optional
        The `config.json`, where it does not lie beside the weights.

    Returns
    -------
    dict
        `ok`, `message`, `remedy`; `summary` describes the model and is empty unless `ok`.
    """
    try:
        model = load_model(*find_model(weights, config))
    except SegcoreError as error:
        return {"ok": False, "message": error.message, "remedy": error.remedy, "summary": {}}
    options, card = model.config.model, model.card
    values = ", ".join(str(value) for value in card.class_values)
    learned = f"classes {values}" if card.head is None else f"objects ({card.head.name})"
    kind = options.kind.title if card.mode == "2d" else f"{options.kind.title} ({card.mode})"
    return {
        "ok": True,
        "message": f"{kind}{f' with {options.size_text}' if options.size_text else ''}, {learned}.",
        "remedy": "",
        "summary": {
            "session": model.config.session,
            **options.shape,
            "mode": card.mode,
            "channels": card.channels,
            "class_values": list(card.class_values),
            "class_names": list(card.class_names),
            **({} if card.head is None else {"head": card.head.name}),
            "parameters": card.parameters,
            "sha256": model.sha256,
        },
    }


def main(arguments: list[str]) -> int:
    """Write the answer for the paths in `arguments` to stdout."""
    paths = [Path(argument) for argument in arguments]
    sys.stdout.write(json.dumps(check_model(*paths[:2]), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
