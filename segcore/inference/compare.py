"""An evaluation as a job: the scores of `segcore evaluate`, and a folder that shows where they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segcore.config import DataConfig, RunConfig
from segcore.devices import choose, versions
from segcore.events import Outcome, Reporter, Request, unasked, unheard
from segcore.files import write_atomic
from segcore.inference.evaluate import Part, evaluate
from segcore.inference.pace import Stopped
from segcore.inference.scorer import SliceScores, Watcher
from segcore.jobs.comparison import ComparisonWriter, ScoredSlice
from segcore.models.saved import LoadedModel

RESULTS = "results.json"


def compare(
    config: RunConfig,
    folder: Path,
    report: Reporter = unheard,
    asked: Callable[[], Request | None] = unasked,
    model: LoadedModel | None = None,
    part: Part | None = None,
    reference: str | None = None,
) -> Outcome:
    """Evaluate and leave in `folder` results.json and what was found in every slice.

    Parameters
    ----------
    config, report, model, part
        As of `evaluate`. An option that has its default counts as not given.
    folder : Path
        The run folder.
    asked : callable
        Asked between blocks what somebody wants; whatever it is, nothing is left, and the same call begins
        again.
    reference : str, optional
        What the person called the model, where `inference.model` is only a copy of it.

    Raises
    ------
    ConfigError, DataError, ModelError
        Something the person has to change; no result is left.
    """
    # What was read from a file names every option, but only what a person chose may overrule the training.
    data = DataConfig.model_validate(config.data.model_dump(exclude_defaults=True))
    keeper = _Keeper(folder)
    try:
        scores = evaluate(config.model_copy(update={"data": data}), report, model, part, asked, keeper)
        keeper.close()
    except Stopped as stopped:
        keeper.give_up()
        return Outcome(request=stopped.request, metrics={})
    except BaseException:
        keeper.give_up()
        raise
    about = {
        "model": reference or config.inference.model,
        "device": choose(config.hardware).describe(),
        "versions": versions(),
    }
    write_atomic(folder / RESULTS, json.dumps(scores | keeper.about | about, indent=2) + "\n")
    return Outcome(request=None, metrics=scores)


class _Keeper(Watcher):
    """Writes down what was found in every slice."""

    needs_slices = True

    def __init__(self, run: Path) -> None:
        self._run = run
        self._writer: ComparisonWriter | None = None
        self._data = DataConfig()
        self.about: dict[str, Any] = {}

    def begin(self, data: DataConfig, model: LoadedModel) -> None:
        """Begin the folder."""
        card = model.card
        self._data = data
        self._writer = ComparisonWriter(self._run, card.class_values, card.head is not None)
        names = dict(zip(map(str, card.class_values), card.class_names, strict=True))
        self.about = {"model_sha256": model.sha256, "class_names": names}

    def slice_scored(self, found: SliceScores) -> None:
        """Write down a slice."""
        scores = found.scores
        scored = ScoredSlice(
            index=found.index,
            name=found.name,
            mean_dice=scores.mean_dice,
            dice=scores.dice,
            iou=scores.iou,
            f1=found.f1,
        )
        if self._writer is not None:
            self._writer.add(scored, found.shown_2YX)

    def close(self) -> None:
        """Complete the folder."""
        if self._writer is not None:
            self._writer.close(self._data)

    def give_up(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            self._writer.give_up()
