"""`segcore masks`: all objects of images found by a network of the SAM family, without any training."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from dataclasses import fields
from pathlib import Path

from segcore.addresses import absolute_address, split_address
from segcore.cli.output import write_json, write_lines
from segcore.cli.parser import Parser, UsageError
from segcore.config import RunConfig, build_config
from segcore.data.collection import Collection, open_collection
from segcore.errors import ConfigError
from segcore.events import StageEvent
from segcore.promptable.images import FOLDER, find_in_images
from segcore.promptable.promptable import OPTIONS, Everything
from segcore.promptable.stack import plain_name, stack_names
from segcore.worker.console import Console

READING = ("axes", "channels", "channel_suffixes")
"""Options of the data that decide how images without labels are read."""


def masks_command(words: list[str]) -> int:
    """Run `segcore masks`; what was done of the slices before an interruption is not done again."""
    options = _parser().parse_args(words)
    asked, config = _everything(options), _config(options)
    collection = open_collection(config.data, labelled=False)
    output = _output(options, collection)
    console = Console()
    console(StageEvent(text=f"loading {options.model}"))
    try:
        # torch takes seconds: mistakes in the command line are told before.
        from segcore.devices import choose
        from segcore.promptable.sam import load_sam

        network = load_sam(options.model, choose(config.hardware))
        stacks, how = find_in_images(collection, network, asked, output, options.tile, console)
    except KeyboardInterrupt:
        if (output / FOLDER).is_dir():
            console.say("The same command goes on from here.")
        raise
    finally:
        console.close()
    if options.json:
        content = {"objects": how.objects, "unlabelled_value": how.unlabelled, "stacks": stacks}
        write_json({"output": output, "slices": collection.count, **content})
    else:
        write_lines(
            [
                f"{how.objects} objects on {collection.count} slices of {len(stacks)} images",
                f"labels  {stacks[0] if len(stacks) == 1 else output}",
            ]
        )
    return 0


def _parser() -> Parser:
    defaults = Everything()
    parser = Parser(
        "masks",
        "Find all objects of images with a network of the SAM family (SAM, SAM 2, SAM 3), and write them as "
        "stacks of labels: 0 is background, every object of a slice has a number of its own.",
    )
    add = parser.add_argument
    add("--images", required=True, metavar="PATH", help="an image, a stack or a folder of images")
    add("--model", required=True, metavar="MODEL", help=MODEL_HELP)
    add("--output", type=Path, metavar="FOLDER", help="where the stacks go (default: ./NAME_masks)")
    for name in READING:
        flag = f"--{name.replace('_', '-')}"
        add(flag, metavar=name.upper(), help=f"as --data.{flag[2:]} of `segcore train`")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where it computes")
    for field in fields(Everything):
        default, option = getattr(defaults, field.name), OPTIONS[field.name]
        add(
            f"--{field.name}",
            type=type(default),
            default=default,
            metavar="N",
            help=f"{option.help} (default: {default:g})",
        )
    add("--tile", type=_tile, default=0, metavar="PX", help=TILE_HELP)
    add("--json", action="store_true", help="write one JSON object to stdout")
    return parser


MODEL_HELP = (
    "a folder as transformers writes it, or an id of the Hugging Face hub, which is fetched once: "
    "facebook/sam2.1-hiera-small, facebook/sam-vit-base"
)


TILE_HELP = (
    "look at larger slices in overlapping pieces of so many px, for objects that are small in them: the "
    "networks see 1024 px (default: whole slices)"
)
LEAST_TILE = 64


def _tile(text: str) -> int:
    if not text.isdecimal() or 0 < int(text) < LEAST_TILE:
        raise ArgumentTypeError(f"{text!r} is no whole number from {LEAST_TILE} on")
    return int(text)


def _everything(options: Namespace) -> Everything:
    try:
        return Everything(**{field.name: getattr(options, field.name) for field in fields(Everything)})
    except ConfigError as error:
        raise UsageError(f"--{error.message}", error.remedy) from error


def _config(options: Namespace) -> RunConfig:
    given = {name: getattr(options, name) for name in READING if getattr(options, name) is not None}
    if "channel_suffixes" in given:
        given["channel_suffixes"] = [part.strip() for part in given["channel_suffixes"].split(",")]
    data = {"images": options.images, **given}
    try:
        config = build_config({"data": data, "hardware": {"device": options.device}})
    except ConfigError as error:
        raise UsageError(error.message, error.remedy) from error
    return config.model_copy(update={"data": config.data.with_addresses(absolute_address)})


def _output(options: Namespace, collection: Collection) -> Path:
    """Return the folder of the results: as given, else one beside whoever asks, named like the images."""
    whole = Path(str(options.images).split(";")[0].split("::")[0])
    output: Path = options.output or Path(f"{Path(plain_name(whole.name)).name}_masks")
    output = output.expanduser().resolve()
    if output.is_file():
        raise UsageError(f"--output is the file {output}.", "Name a folder.")
    addresses = [address for entry in collection.entries for address in entry.item.images]
    images = {Path(split_address(address)[0]).resolve() for address in addresses}
    if output in {image.parent for image in images}:
        raise UsageError(
            f"--output is {output}, where the images are: labels of their names could replace them.",
            "Name another folder.",
        )
    stacks = [(output / name).resolve() for name in stack_names(collection)]
    if lost := next((stack for stack in stacks if stack in images), None):
        raise UsageError(
            f"--output is {output}, where labels would replace the image {lost}.", "Name another folder."
        )
    return output
