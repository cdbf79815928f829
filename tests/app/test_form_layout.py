"""The layout of the form: every option once, under a heading, and nothing that says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from app import form_layout, forms
from app.steps import configure
from segcore.config import RunConfig

FIELDS = forms.training_fields()
DEFAULTS = dict(zip((field.path for field in FIELDS), forms.from_config(RunConfig(), FIELDS), strict=True))


def test_every_folded_option_has_a_heading_and_every_heading_an_option() -> None:
    folded = [field for field in FIELDS if field.folded]
    headings = form_layout.headed(folded)
    placed = [field.path for heading in headings for field in heading.fields]
    assert sorted(placed) == sorted(field.path for field in folded)
    assert [heading.title for heading in headings if heading.title] == list(form_layout.HEADINGS)
    known = {field.path for field in FIELDS}
    assert {path for paths in form_layout.HEADINGS.values() for path in paths} <= known
    assert set(form_layout.APPLIES) <= known


@pytest.mark.parametrize(
    ("path", "because"),
    [
        ("data.context_slices", {"data.mode": "2.5d"}),
        ("data.patch_depth", {"data.mode": "3d"}),
        ("data.group_pattern", {"data.split_by": "groups"}),
        ("data.fold", {"data.folds": 5}),
        ("training.class_weight_values", {"training.class_weights": "by-hand"}),
        ("training.min_gain", {"training.patience": 5}),
        ("training.min_gain", {"training.schedule": "plateau"}),
        ("training.schedule_patience", {"training.schedule": "plateau"}),
        ("training.schedule_factor", {"training.schedule": "step"}),
        ("training.schedule_steps", {"training.schedule": "step"}),
        ("training.distill", {"training.teacher": "a-run"}),
        ("training.confidence", {"training.teacher": "a-run"}),
        ("training.temperature", {"training.teacher": "a-run", "training.distill": "soft"}),
        ("training.teacher_weight", {"training.teacher": "a-run", "training.distill": "both"}),
    ],
)
def test_an_option_is_there_when_it_says_something(path: str, because: dict[str, Any]) -> None:
    assert not form_layout.applies(path, DEFAULTS)
    assert form_layout.applies(path, DEFAULTS | because)


@pytest.mark.parametrize(
    ("path", "value"), [("data.patch_depth", 8), ("data.test_groups", "Pos*09"), ("data.fold", 2)]
)
def test_what_somebody_has_set_is_never_hidden(path: str, value: Any) -> None:
    assert form_layout.applies(path, DEFAULTS | {path: value})


def test_what_is_wrong_between_options_stands_at_one_of_them() -> None:
    for data, place in (({"context_slices": 4}, "data.context_slices"), ({"folds": 1}, "data.fold")):
        _, problems = forms.check({"data": data})
        assert set(problems) == {place}
    assert set(configure.conditional()) == set(form_layout.APPLIES)


def test_a_sum_of_losses_can_be_typed_and_mistakes_stand_at_their_field() -> None:
    field = next(field for field in FIELDS if field.path == "training.loss")
    assert (field.kind, field.free, field.folded) == ("choice", True, True)
    assert forms.component(field, "0.3*dice+ce").allow_custom_value
    assert forms.to_values([field], ["0.3*dice+ce"]) == {"training": {"loss": "0.3*dice+ce"}}
    for training, place in (
        ({"loss": "hinge"}, "training.loss"),
        ({"loss": "lovasz", "devices": 2}, "training.loss"),
        ({"schedule": "plateau", "patience": 3}, "training.patience"),
    ):
        _, problems = forms.check({"training": training})
        assert set(problems) == {place}


def test_lists_of_numbers_go_through_the_form() -> None:
    field = next(field for field in FIELDS if field.path == "training.class_weight_values")
    shown = forms.shown(field, [1.0, 2.5])
    values = {"training": {"class_weights": "by-hand", "class_weight_values": forms.parsed(field, shown)}}
    config, problems = forms.check(values)
    assert config is not None, problems
    assert config.training.class_weight_values == [1.0, 2.5]
