"""Sets of images: what is wrong with them is said in their words, and one of them may be the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.cli.parser import RunParser, UsageError
from segcore.config import DataConfig, RunConfig, TrainingSet, build_config
from segcore.data.validate import check_data
from segcore.errors import ConfigError


def sets(*uses: str) -> list[dict[str, Any]]:
    return [{"images": f"{at}.tif", "labels": f"{at}_l.tif", "use": use} for at, use in enumerate(uses)]


def built(**data: Any) -> DataConfig:
    return build_config({"data": data}).data


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"image": "a.tif", "labels": "b.tif"}], "has 'image', which is not known (did you mean 'images'?)"),
        ([{"labels": "b.tif"}], "set 1 has no 'images'"),
        ([*sets("split"), {"images": 3, "labels": "b.tif"}], "set 2 has images 3, which is no path"),
        ([{"images": "a", "labels": "b", "use": "check"}], "has the use 'check', which is none of train, "),
        (["a.tif"], "set 1 is 'a.tif', which is no set"),
        ({"images": "a.tif"}, "it must be a list"),
        ([{}] * 9, "and 13 more"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_sets_is_said_with_the_remedy(value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(sets=value)
    assert caught.value.message.startswith("data.sets")
    assert said in caught.value.message
    assert 'Write it as [{"images"' in caught.value.message


def test_the_command_line_says_the_same() -> None:
    with pytest.raises(UsageError, match="did you mean 'images'") as caught:
        RunParser("check", "").parse(["--data.sets", '[{"image": "a.tif", "labels": "b.tif"}]'])
    assert "Write it as" in caught.value.message
    with pytest.raises(UsageError, match="can take its place") as caught:
        RunParser("check", "").parse(["--data.sets", '[{"images": "a", "labels": "b", "use": "test"}]'])
    assert "use split" in caught.value.remedy


@pytest.mark.parametrize(
    ("uses", "main"), [(("split",), 0), (("validation", "split", "split"), 1), (("validation", "train"), 1)]
)
def test_one_of_the_sets_takes_the_place_of_the_images(uses: tuple[str, ...], main: int) -> None:
    given = sets(*uses)
    data = built(sets=given)
    assert (data.images, data.labels) == (given[main]["images"], given[main]["labels"])
    assert [one.images for one in data.sets] == [one["images"] for at, one in enumerate(given) if at != main]
    assert built(**data.model_dump()) == data


@pytest.mark.parametrize(
    "options",
    [
        {"sets": sets("train", "test")},
        {"sets": sets("validation")},
        {"sets": sets("train", "validation"), "folds": 3},
        {"sets": sets("train", "validation"), "test_fraction": 0.2},
    ],
)
def test_no_set_is_used_for_what_it_is_not(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"none of data\.sets can take its place") as caught:
        built(**options)
    assert "use split" in caught.value.remedy


def test_named_images_stay_the_first() -> None:
    data = DataConfig(images="a.tif", labels="b.tif", sets=[TrainingSet(**one) for one in sets("split")])
    assert data.with_main_set() == data
    assert DataConfig(labels="b.tif", sets=data.sets).with_main_set().images is None
    assert RunConfig().data.with_main_set() == DataConfig()


def test_sets_alone_pass_the_check(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = []
    for use in ("train", "validation"):
        names = {kind: str(tmp_path / f"{use}_{kind}.tif") for kind in ("images", "labels")}
        tifffile.imwrite(names["images"], rng.integers(0, 255, (5, 64, 64), np.uint8))
        tifffile.imwrite(names["labels"], rng.integers(0, 2, (5, 64, 64), np.uint8))
        given.append(names | {"use": use})
    report = check_data(built(sets=given))
    assert report.ok
    assert any("A set is for validation" in finding.what for finding in report.findings)


def test_images_that_are_taught_need_no_labels_and_are_in_no_part() -> None:
    given = [{"images": "new.tif", "use": "teach"}]
    data = built(images="a.tif", labels="b.tif", sets=given)
    assert data.sets == [TrainingSet(images="new.tif", use="teach")]
    assert built(**data.model_dump()) == data
    with pytest.raises(ConfigError, match="has no 'labels'"):
        built(images="a.tif", labels="b.tif", sets=[{"images": "new.tif", "use": "train"}])
    with pytest.raises(ConfigError, match="can take its place"):
        built(sets=given)
