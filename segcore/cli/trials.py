"""`segcore try`: several families trained for equal minutes on the same images, then side by side."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from segcore.cli.output import write_json, write_lines
from segcore.cli.parser import RunParser, UsageError
from segcore.cli.train import check_first, raise_failure
from segcore.config import RunConfig
from segcore.data.collection import open_collection
from segcore.estimate import read_machine
from segcore.families import FAMILIES, Proposal, candidates, propose
from segcore.jobs.lineage import check_origin, located
from segcore.jobs.store import Job, State, create_job
from segcore.jobs.trials import (
    Tried,
    facts_of,
    material_of,
    new_trial,
    read_trial,
    submit_trial,
    trial_configs,
)
from segcore.jobs.workers import worker_alive
from segcore.worker.console import Console, describe_seconds
from segcore.worker.local import run_here
from segcore.workspace import Workspace

MINUTES = 2.0


def try_command(words: list[str]) -> int:
    """Run `segcore try`; a family that fails does not keep the others from trying.

    Ctrl-C ends the family that trains, and with it the trial; what was reached is told.
    """
    parser = RunParser("try", "Train several families of networks for equal minutes, and compare them.")
    add = parser.parser.add_argument
    add("--families", metavar="A,B", help="names as in `segcore models` (default: some that suit the data)")
    add("--minutes", type=float, default=MINUTES, help=f"what each may take (default: {MINUTES:g})")
    add("--crop", metavar="PX", help=_CROP)
    add("--queue", action="store_true", help="hand the trainings to the running worker")
    options, config = parser.parse(_with_family(parser, words))
    if config.data.images is None or config.data.labels is None:
        raise UsageError("--data.images and --data.labels must be given.", "Give images and their labels.")
    workspace = Workspace.open(options.workspace)
    config = located(config, workspace)
    proposal, names = _families(options, config, workspace)
    configs = trial_configs(config, names, options.minutes, _crop(options.crop))
    check_origin(configs[0], workspace)
    check_first(configs[0])
    if not options.json:
        sys.stderr.write(f"proposed: {proposal.name}. {proposal.why}\n")
        total = describe_seconds(60 * options.minutes * len(configs))
        sys.stderr.write(f"trying {', '.join(names)}: {options.minutes:g} min each, {total} in all\n")
    if options.queue:
        return _queued(submit_trial(workspace, configs), workspace, options.json)
    jobs = _run_all(workspace, configs)
    rows = read_trial(workspace, jobs[0].group, jobs[0].session)
    if not any(row.score is not None for row in rows):
        if jobs[-1].state in (State.FAILED, State.INTERRUPTED):
            raise_failure(jobs[-1])
        raise KeyboardInterrupt
    content = {"group": jobs[0].group, "minutes": options.minutes, "proposed": proposal._asdict()}
    described = [asdict(row) for row in rows]
    write_json(content | {"families": described}) if options.json else write_lines(trial_table(rows))
    return 0


_CROP = (
    "use only the middle of every image: PX or ROWS,COLUMNS; two more numbers are the first row and column "
    "(default: the whole images)"
)


def trial_table(rows: tuple[Tried, ...]) -> list[str]:
    """Return the families of a trial for a person, the best first."""
    cells = [("FAMILY", rows[0].measure.upper(), "PARAMETERS", "S/MEGAPIXEL", "FILE", "RUN")]
    for row in sorted(rows, key=lambda row: -1.0 if row.score is None else row.score, reverse=True):
        cells.append(
            (
                row.family,
                str(row.state) if row.score is None else f"{row.score:.3f}",
                "–" if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
                "–" if row.seconds_per_megapixel is None else f"{row.seconds_per_megapixel:.3g}",
                "–" if row.model_bytes is None else f"{row.model_bytes / 1e6:.1f} MB",
                row.id,
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return [line.rstrip() for line in lines] + [f"{row.family}: {row.message}" for row in rows if row.message]


def _families(
    options: Namespace, config: RunConfig, workspace: Workspace
) -> tuple[Proposal, tuple[str, ...]]:
    """Return the family that is proposed, and those that are tried: the named ones, or some that suit."""
    slices = open_collection(config.data).count
    facts, material = facts_of(config), material_of(config, slices, read_machine(workspace))
    proposal = propose(facts, material)
    if options.families is None:
        return proposal, candidates(facts, material)
    names = tuple(name.strip() for name in options.families.split(",") if name.strip())
    unknown = [name for name in names if name not in FAMILIES]
    if unknown or not names:
        raise UsageError(
            f"--families names {', '.join(unknown) or 'nothing'}, which is no family.",
            "`segcore models` lists them.",
        )
    return proposal, names


def _with_family(parser: RunParser, words: list[str]) -> list[str]:
    """Return the words with a family that learns what `--model.head` names: the default one may not."""
    given = vars(parser.parser.parse_known_args(words)[0])
    head = given.get("model.head")
    if head is None or given.get("model.family") or given.get("config"):
        return words
    names = (given["families"] or ",".join(FAMILIES)).split(",")
    able = (name.strip() for name in names if name.strip() in FAMILIES)
    family = next((name for name in able if head in FAMILIES[name].heads), None)
    return words if family is None else [*words, "--model.family", family]


def _crop(text: str | None) -> tuple[int, ...]:
    """Return the numbers of `--crop`: rows and columns, and if given the first row and column."""
    if text is None:
        return ()
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--crop is {text!r}.", "Give whole numbers of px, for example 512.") from None
    return numbers * 2 if len(numbers) == 1 else numbers


def _run_all(workspace: Workspace, configs: list[RunConfig]) -> list[Job]:
    """Train one after the other; the first that somebody ends is the last."""
    group = new_trial()
    jobs: list[Job] = []
    for number, one in enumerate(configs, start=1):
        sys.stderr.write(f"family {number} of {len(configs)}: {one.model.family}\n")
        job = create_job(workspace, "train", one, owner="command", group=group)
        jobs.append(run_here(job, workspace, Console()))
        if jobs[-1].state is State.FAILED:
            sys.stderr.write(f"warning: it failed: {jobs[-1].message} {jobs[-1].remedy}\n")
        elif jobs[-1].state is not State.FINISHED:
            break
    return jobs


def _queued(jobs: list[Job], workspace: Workspace, as_json: bool) -> int:
    """Tell where the trainings are, and whether anybody will work them."""
    if not worker_alive(workspace):
        sys.stderr.write(
            "No worker is running: the trainings wait until `segcore worker` or `segcore serve` is started.\n"
        )
    rows: list[dict[str, Any]] = [
        {"family": job.config.model.family, "id": job.id, "run_folder": job.folder} for job in jobs
    ]
    if as_json:
        write_json({"group": jobs[0].group, "families": rows})
    else:
        write_lines([f"queued as {row['id']}  {row['family']}" for row in rows])
    return 0
