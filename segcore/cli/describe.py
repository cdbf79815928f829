"""`segcore describe`: write down what a model of another program wants and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segcore.cli.output import write_json, write_lines
from segcore.cli.parser import Parser, UsageError
from segcore.sidecar import sidecar_of, write_sidecar


def describe_command(words: list[str]) -> int:
    """Run `segcore describe`; the file is opened and tried in this process."""
    parser = Parser(
        "describe",
        "Describe an ONNX, TorchScript (.pt), torch.export (.pt2) or Keras (.keras, .h5) file, so that "
        "segcore predict can apply it. A JSON file beside it gets what it says and what was tried, and null "
        "for what you must fill in.",
    )
    add = parser.add_argument
    add("file", type=Path, help="the model")
    add("--output", type=Path, metavar="FILE", help="where to write (default: beside it, with .json)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help='say something of it, as in --set output=logits or --set class_names=\'["background", "cell"]\'',
    )
    add("--force", action="store_true", help="replace a description that is there")
    add("--json", action="store_true", help="write one JSON object to stdout")
    options = parser.parse_args(words)
    given = dict(_pair(word) for word in options.set)
    target = options.output or sidecar_of(options.file)
    if target.exists() and not options.force:
        raise UsageError(f"{target} is there already.", "Give --force to replace it, or another --output.")
    # The engine imports torch, which takes seconds: mistakes in the command line are told before.
    from segcore.models.foreign.describing import describe_model

    found = describe_model(options.file, given)
    write_sidecar(target, found.content)
    if options.json:
        write_json({"file": target, "description": found.content, "open": list(found.open)})
        return 0
    write_lines(
        [
            *found.notes,
            f"written to {target}",
            *([f"Fill in: {', '.join(found.open)}."] if found.open else []),
        ]
    )
    return 0


def _pair(word: str) -> tuple[str, Any]:
    """Return name and value of `NAME=VALUE`; a value that is no JSON is a text."""
    name, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"--set {word} has no value.", "Write NAME=VALUE, as in --set output=logits.")
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text
