"""Entry of the worker's processes.

`run FOLDER` does one job, `ready MARK` waits for the jobs that it is told, `serve` is the worker that takes
them from the queue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segcore.errors import SegcoreError
from segcore.workspace import Workspace


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m segcore.worker", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the work of one job in this process")
    run.add_argument("folder", type=Path)
    ready = commands.add_parser("ready", help="wait for jobs, named on stdin, with the engine imported")
    ready.add_argument("mark", help="what the process is recognised by")
    serve = commands.add_parser("serve", help="take jobs from the queue, one process for each")
    serve.add_argument("--devices", help="devices to work on, as in cuda:0,cuda:1 (default: all)")
    serve.add_argument("--follow", type=int, help="end when this process is gone and no job is left")
    for parser_of_command in (run, serve):
        parser_of_command.add_argument("--workspace", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.command == "ready":
        from segcore.worker.ready import stand_by

        return stand_by(options.mark)
    workspace = Workspace.open(options.workspace)
    if options.command == "run":
        from segcore.worker.child import work

        return work(options.folder.resolve(), workspace)
    from segcore.worker.service import run_worker
    from segcore.worker.slots import parse_devices

    try:
        run_worker(workspace, options.follow, parse_devices(options.devices) if options.devices else ())
    except SegcoreError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
