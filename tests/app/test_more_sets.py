"""Further sets of images: added, shown, taken away, and given to the training as they were chosen."""

from __future__ import annotations

from app import forms, more_sets


def test_sets_are_added_and_taken_away() -> None:
    first, images, labels, _ = more_sets.add("", "data/a", "data/a_masks", "validation")
    assert (images, labels) == (None, None)
    second, *_ = more_sets.add(first, "data/<b>", "data/b_masks", "split")
    table, remove = more_sets.show(second)
    assert remove.visible
    assert "data/&lt;b&gt;" in table
    values = forms.read_data({"images": "data/x", "labels": "data/y", "sets": second})
    config, problems = forms.check({"data": values})
    assert config is not None, problems
    assert [one.use for one in config.data.sets] == ["validation", "split"]
    assert forms.shown_data(config.data)["images"] == "data/x"
    again, _ = forms.check({"data": forms.read_data(forms.shown_data(config.data))})
    assert again is not None
    assert again.data == config.data
    assert more_sets.remove_last(second) == first
    assert more_sets.remove_last(first) == ""


def test_half_a_set_is_refused() -> None:
    value, *_, table = more_sets.add("", "data/a", None, "split")
    assert not isinstance(value, str)
    assert "annotations" in table


def test_a_teacher_needs_no_annotations() -> None:
    value, *_ = more_sets.add("", "data/a", None, "teach")
    assert "data/a" in more_sets.table_of(more_sets.sets_of(value))
    config, problems = forms.check({"data": forms.read_data({"sets": value})})
    assert config is not None, problems
    assert (config.data.sets[0].use, config.data.sets[0].labels) == ("teach", "")


def test_what_is_no_list_of_sets_is_none() -> None:
    assert more_sets.sets_of("{") == more_sets.sets_of('{"a": 1}') == more_sets.sets_of("") == []
