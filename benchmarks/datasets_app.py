"""Every kind of data through the web app: checked, trained on, evaluated and segmented by its own endpoints.

`python -m benchmarks.datasets_app` starts the app on a workspace of its own, with copies of the shared real
sets, and is its only client; `--record` keeps a line per set in the README. Jobs compute with one thread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gradio_client import Client

from benchmarks.datasets import CASES, SHARED, Case
from benchmarks.record import add_row, describe_machine
from benchmarks.serving import answers, started

TITLE = "Data sets through the app"
START_SECONDS = 120.0
JOB_SECONDS = 900.0
"""How long a job may take, beside the minutes of a training."""
ALSO_FOR_NEW_IMAGES = ("channels", "axes", "pixel_size", "mode")
"""Options of the training images that a segmentation of them needs too."""


class App:
    """The endpoints of a running app.

    Parameters
    ----------
    url : str
        Its address.
    workspace : Path
        Its workspace.
    """

    def __init__(self, url: str, workspace: Path) -> None:
        self._client = Client(url, verbose=False, analytics_enabled=False)
        self._data = workspace / "data" / "shared"
        self._data.mkdir(parents=True, exist_ok=True)

    def run_case(self, case: Case, minutes: float) -> str:
        """Check, train, evaluate and segment one set; return its line.

        RuntimeError where a job fails, or the evaluation finds another Dice than the training did.
        """
        values = self._values(case)
        data = values.pop("data")
        images, labels = data.pop("images"), data.pop("labels")
        report = self._call("check_data", images=images, labels=labels, data=data)
        if not report["ok"]:
            raise RuntimeError(f"refused: {report}")
        training = {**values.pop("training"), "max_minutes": minutes, "epochs": 10_000}
        options = {**values, "data": data, "training": training}
        limit = 60 * minutes + JOB_SECONDS
        run = self._job("start_training", limit, images=images, labels=labels, options=options)
        trained = run["results"]["metrics"]["val_dice"]
        dice = self._job("evaluate", model=run["id"], part="validation")["results"]["val_dice"]
        # Of a slice that is divided by rows, the evaluation sees the whole: it differs near the border.
        if dice != trained and not case.by_rows:
            raise RuntimeError(f"The evaluation finds the Dice {dice}, the training found {trained}.")
        like = {key: value for key, value in data.items() if key in ALSO_FOR_NEW_IMAGES}
        self._job("start_segmentation", images=images, model=run["id"], options={"data": like})
        told = (case.name, f"{minutes:g} min", f"**{dice:.3f}**")
        cells = (date.today().isoformat(), describe_machine(), *told)
        return "| " + " | ".join(cells) + " |"

    def _values(self, case: Case) -> dict[str, Any]:
        """Return the options of a case with paths in the workspace, where a copy of its set lies."""
        folder = case.images.split("/", 1)[0]
        if not (self._data / folder).exists():
            shutil.copytree(SHARED / folder, self._data / folder)
        values = case.values()
        data = values["data"]
        moved = {key: self._moved(data[key]) for key in ("images", "labels")}
        sets = [
            {key: value if key == "use" else self._moved(value) for key, value in one.items()}
            for one in data.pop("sets")
        ]
        return {**values, "data": {**data, **moved, **({"sets": sets} if sets else {})}}

    def _moved(self, path: str) -> str:
        return str(self._data / Path(path).relative_to(SHARED))

    def _job(self, endpoint: str, limit: float = JOB_SECONDS, **arguments: Any) -> dict[str, Any]:
        """Start a job, wait for it, and return how it ended."""
        job = self._call(endpoint, **arguments)
        deadline = time.monotonic() + limit
        while job["state"] in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.5)
            job = self._call("job_status", job=job["id"])
        if job["state"] != "finished":
            raise RuntimeError(f"{endpoint}: {job['state']}. {job['message']}")
        return job

    def _call(self, endpoint: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.predict(api_name=f"/{endpoint}", **arguments)
        return answer


@contextmanager
def served(folder: Path) -> Iterator[App]:
    """Serve a workspace, whose jobs compute with one thread, and end the server afterwards."""
    workspace, log = folder / "workspace", folder / "app.log"
    with started(workspace, log=log, OMP_NUM_THREADS="1") as (url, server):
        deadline = time.monotonic() + START_SECONDS
        while not answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        yield App(url, workspace)


def main() -> int:
    """Run the cases and print, and on request record, their lines; 1 if one could not be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datasets_app", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="of every training (default: 2)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--record", action="store_true", help="add the lines to benchmarks/README.md")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # what `describe_machine` shall tell
    failed = 0
    with TemporaryDirectory() as folder, served(Path(folder)) as app:
        for case in CASES:
            if options.only.lower() not in case.name.lower():
                continue
            try:
                line = app.run_case(case, options.minutes)
            except (RuntimeError, ValueError) as error:
                failed += 1
                print(f"{case.name}: {error}")
                continue
            print(line, flush=True)
            if options.record:
                add_row(TITLE, line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
