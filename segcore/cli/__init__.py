"""The command line: finds the command, runs it, and turns errors into a message and an exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from segcore import __version__
from segcore.cli.usage import UsageError
from segcore.errors import SegcoreError

Command = Callable[[list[str]], int]

# Name → (what it does, module, function). A module is imported when its command is used, so help is instant.
COMMANDS = {
    "simulate": ("make microscope-like images with exact masks", "data", "simulate_command"),
    "check": ("look for problems in images and labels", "data", "check_command"),
    "train": ("train a model on an image stack and its labels", "train", "train_command"),
    "predict": ("segment an image stack with a trained model", "predict", "predict_command"),
    "evaluate": ("compare a model's segmentation with labels", "predict", "evaluate_command"),
    "masks": ("find all objects of images with SAM, without any training", "masks", "masks_command"),
    "try": ("train several families for equal minutes and compare them", "trials", "try_command"),
    "models": ("list the families of networks, and what each is good for", "models", "models_command"),
    "describe": ("describe a model of another program, to apply it", "describe", "describe_command"),
    "jobs": ("list, pause, resume, stop, discard and move jobs, read their logs", "jobs", "jobs_command"),
    "serve": ("serve the web app, a worker and the MLflow UI", "services", "serve_command"),
    "worker": ("work the jobs that the web app and --queue submit", "services", "worker_command"),
    "demo": ("train and apply a small model on simulated images", "services", "demo_command"),
}

USAGE = 2
FAILURE = 1
INTERRUPTED = 130
"""Exit statuses: the command line was wrong; the work failed; Ctrl-C ended it (128 + SIGINT)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `segcore` and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0 if words else USAGE
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"segcore {__version__}\n")
        return 0
    if words[0] not in COMMANDS:
        return _complain(
            f"segcore has no command {words[0]!r}.", f"The commands are {', '.join(COMMANDS)}.", words, USAGE
        )
    _, module, function = COMMANDS[words[0]]
    command: Command = getattr(import_module(f"segcore.cli.{module}"), function)
    return _guarded(command, words[1:])


def overview() -> str:
    """Return the text of `segcore --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (text, _, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: segcore COMMAND [options]",
            "",
            "Train a segmentation model on your own microscope images and apply it to new ones.",
            "",
            "commands:",
            *lines,
            "",
            "`segcore COMMAND --help` lists the options of a command.",
            "",
        ]
    )


def _guarded(command: Command, words: list[str]) -> int:
    try:
        return command(words)
    except UsageError as error:
        return _complain(error.message, error.remedy, words, USAGE)
    except SegcoreError as error:
        return _complain(error.message, error.remedy, words, FAILURE)
    except KeyboardInterrupt:
        return _complain("Interrupted.", "", words, INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output, `head` for example, has enough of it.
        sys.stdout = None  # or the interpreter complains when it flushes
        return 0
    except MemoryError as error:
        return _complain(
            f"Memory ran out. {error}".strip(), "Use a smaller image or number of images.", words, FAILURE
        )
    except OSError as error:
        where = f" ({Path(str(error.filename))})" if error.filename else ""
        message = f"{error.strerror or error}{where}."
        return _complain(message, "Check that the path is right and that the disk has room.", words, FAILURE)


def _complain(message: str, remedy: str, words: list[str], status: int) -> int:
    if "--json" in words:
        sys.stdout.write(json.dumps({"error": message, "remedy": remedy}, ensure_ascii=False) + "\n")
    text = "\n".join(filter(None, [message, remedy]))
    sys.stderr.write(f"{text}\n")
    return status
