"""`segcore simulate` and `segcore check`: make practice data, and look for problems in data."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tqdm import tqdm

from segcore.cli.doctor import (
    add_fix_options,
    check_fix_options,
    proposal_content,
    save_treatment,
    treat,
    treatment_lines,
    write_pictures,
)
from segcore.cli.output import write_json, write_lines
from segcore.cli.parser import Parser, RunParser, UsageError
from segcore.cli.train import describe_finding
from segcore.config import RunConfig
from segcore.data.for_training import check_run
from segcore.data.report import Report
from segcore.data.simulate import simulate
from segcore.errors import ConfigError

CLASSES = 10
"""Classes that are listed."""
SIGNS = {"error": "✗", "warning": "⚠", "info": "·"}


def simulate_command(words: list[str]) -> int:
    """Run `segcore simulate`."""
    parser = Parser("simulate", "Make microscope-like images of cells with exact masks.")
    parser.add_argument("out", type=Path, help="folder for the images and their masks")
    parser.add_argument("--kind", choices=("2class", "3class"), default="2class", help="masks 0/1, or 0/1/2")
    parser.add_argument("--images", type=int, default=24, metavar="N", help="number of images (default: 24)")
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="their side (default: 256)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="equal seeds give equal images")
    parser.add_argument("--json", action="store_true", help="write one JSON object to stdout")
    options = parser.parse_args(words)
    out = options.out.expanduser().resolve()
    try:
        raw, labels = simulate(out, options.kind, options.images, options.size, options.seed)
    except ConfigError as error:
        raise UsageError(error.message, error.remedy) from error
    if options.json:
        write_json({"images": raw, "labels": labels})
    else:
        write_lines([f"images  {raw}", f"labels  {labels}"])
    return 0


def check_command(words: list[str]) -> int:
    """Run `segcore check`; the status is 1 if any finding is an error, with `--fix` after the repairs."""
    parser = RunParser("check", "Look for problems in images and labels before training on them.")
    add_fix_options(parser.parser)
    options, config = parser.parse(words)
    if config.data.images is None:
        raise UsageError(
            "--data.images must be given.", "Give the image stack, and its labels if there are any."
        )
    check_fix_options(options, config)
    if options.fix:
        return _fix(options, config)
    with _bar("checking") as show:
        report = check_run(config, show)
    if options.json:
        write_json({"ok": report.ok, **report.model_dump(mode="json", exclude={"ok"})})
    else:
        write_lines(report_lines(report))
        if config.data.labels and any(finding.level != "info" for finding in report.findings):
            write_lines(["segcore check --fix proposes repairs"])
    return 0 if report.ok else 1


def _fix(options: Namespace, config: RunConfig) -> int:
    with _bar("examining") as show:
        treatment = treat(config, options, show, partial(tqdm.write, file=sys.stderr))
    fixed = config.model_copy(update={"data": treatment.data})
    saved = save_treatment(fixed, options) if treatment.accepted or options.save else None
    pictures = write_pictures(treatment.proposals, options.pictures) if options.pictures else []
    with _bar("checking") as show:
        report = check_run(fixed, show)
    if options.json:
        content = {"ok": report.ok, **report.model_dump(mode="json", exclude={"ok"})}
        write_json(content | {"proposals": proposal_content(treatment), "saved": saved, "pictures": pictures})
    else:
        write_lines([*treatment_lines(treatment), *report_lines(report)])
        if saved:
            write_lines([f"saved  {saved}", f"train with  segcore train --config {shlex.quote(str(saved))}"])
    return 0 if report.ok else 1


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    form = f"{doing} {{bar}} {{elapsed}}"
    with tqdm(total=1.0, file=sys.stderr, leave=False, disable=None, bar_format=form) as bar:

        def show(done: int, total: int) -> None:
            bar.n = done / max(total, 1)
            bar.refresh()

        yield show


def report_lines(report: Report) -> list[str]:
    """Return the report for a person."""
    lines = []
    for name, summary in (("images", report.images), ("labels", report.labels)):
        if summary is not None:
            parts = [summary.text, summary.pixel_size.text]
            lines.append(f"{name}  {', '.join(filter(None, parts))}  {summary.path}")
    lines += [
        f"class {found.value}  {found.name}  {found.pixels} px  {found.share:.1%}"
        for found in report.classes[:CLASSES]
    ]
    rest = len(report.classes) - CLASSES
    if rest > 0:
        lines.append(f"… and {rest} more; if these are objects, --data.labels-as foreground")
    for finding in report.findings:
        lines.append(f"{SIGNS[finding.level]} {describe_finding(finding)} {finding.remedy}".rstrip())
    return [*lines, "✓ ready" if report.ok else "not usable yet"]
