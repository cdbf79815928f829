"""Views: pictures keep what they show apart, HTML keeps what users write harmless, words keep their sense."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app import views
from app.findings import findings_html
from segcore.data.report import Finding, Report

VALUES = (0, 7, 255)
SCRIPT = "<script>alert('x')</script>&\"'"


def pair(seed: int = 0, shape: tuple[int, int, int] = (1, 24, 31)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    image = random.integers(0, 5000, shape).astype(np.uint16)
    return image, random.choice(np.array([*VALUES, 99]), shape[1:])


def rgb(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def test_no_labels_or_no_opacity_shows_the_image_alone() -> None:
    image, labels = pair()
    alone = views.overlay(image)
    assert np.array_equal(views.overlay(image, labels, class_values=VALUES, opacity=0), alone)
    assert np.array_equal(views.overlay(image, labels, class_values=()), alone)


def test_full_opacity_shows_the_colour_of_each_class_and_nothing_of_unknown_values() -> None:
    image, labels = pair()
    picture = views.overlay(image, labels, class_values=VALUES, opacity=1)
    for index, value in enumerate(VALUES):
        assert (picture[labels == value] == rgb(views.class_colour(index))).all()
    assert np.array_equal(picture[labels == 99], views.overlay(image)[labels == 99])


def test_a_hidden_class_is_left_out_and_the_others_keep_their_colour() -> None:
    image, labels = pair()
    shown = views.overlay(image, labels, class_values=VALUES)
    hidden = views.overlay(image, labels, class_values=VALUES, hidden=(7,))
    assert np.array_equal(hidden[labels == 7], views.overlay(image)[labels == 7])
    assert np.array_equal(hidden[labels != 7], shown[labels != 7])


@given(
    top=st.integers(0, 20), left=st.integers(0, 25), height=st.integers(1, 12), width=st.integers(1, 12),
    channels=st.integers(1, 5),
)  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_a_detail_looks_as_it_does_in_the_whole(
    top: int, left: int, height: int, width: int, channels: int
) -> None:
    image, labels = pair(channels, (channels, 24, 31))
    limits = views.contrast_limits(image)
    window = (slice(top, top + height), slice(left, left + width))
    whole = views.overlay(image, labels, class_values=VALUES, contrast=limits)
    part = views.overlay(image[:, *window], labels[window], class_values=VALUES, contrast=limits)
    assert np.array_equal(part, whole[window])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64, bool])
def test_brighter_pixels_never_look_darker(dtype: type) -> None:
    image = np.linspace(0, 100, 600).astype(dtype).reshape(1, 20, 30)
    grey = views.overlay(image)[..., 0].ravel().astype(int)
    assert (np.diff(grey) >= 0).all()
    assert grey[0] == 0
    assert grey[-1] == 255


def test_a_hot_pixel_does_not_darken_the_picture() -> None:
    image = np.linspace(0, 100, 10_000).reshape(1, 100, 100)
    hot = image.copy()
    hot[0, 50, 50] = 1e6
    difference = views.overlay(hot)[..., 0].astype(int) - views.overlay(image)[..., 0]
    assert np.abs(np.delete(difference.ravel(), 5050)).max() <= 1


@pytest.mark.parametrize("content", [0.0, 7.0, np.nan, np.inf])
def test_an_image_without_contrast_can_be_shown(content: float) -> None:
    assert views.overlay(np.full((1, 4, 5), content, np.float32)).shape == (4, 5, 3)


def test_nan_and_infinity_do_not_change_the_other_pixels() -> None:
    image = np.linspace(0, 1, 400, dtype=np.float32).reshape(1, 20, 20)
    limits = views.contrast_limits(image)
    broken = image.copy()
    broken[0, 0, :2] = np.nan, np.inf
    assert np.array_equal(views.render(broken, limits)[1:], views.render(image, limits)[1:])
    assert views.render(broken, limits)[0, 1, 0] == 255


def test_two_channels_are_magenta_and_green_and_three_are_red_green_blue() -> None:
    limits = np.array([[0, 1]] * 3, np.float32)
    single = np.zeros((3, 3, 1), np.float32)
    single[[0, 1, 2], [0, 1, 2]] = 1
    assert views.render(single, limits)[:, 0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert views.render(single[:2], limits[:2])[:2, 0].tolist() == [[255, 0, 255], [0, 255, 0]]


def test_class_colours_differ() -> None:
    colours = np.array([rgb(views.class_colour(index)) for index in range(30)])
    distance = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert distance[~np.eye(30, dtype=bool)].min() > 12
    assert distance[:8, :8][~np.eye(8, dtype=bool)].min() > 60


@given(height=st.integers(1, 300), width=st.integers(1, 300), limit=st.integers(1, 100))
@settings(deadline=None, max_examples=60)
def test_a_preview_fits_and_keeps_true_pixels(height: int, width: int, limit: int) -> None:
    plane = np.arange(height * width).reshape(1, height, width)
    preview = views.fit_preview(plane, limit)
    step = views.preview_step(height, width, limit)
    assert max(preview.shape[1:]) <= limit
    assert np.array_equal(preview, plane[:, ::step, ::step])


def test_a_picture_survives_its_way_to_the_page() -> None:
    picture = views.overlay(pair()[0])
    data = base64.b64decode(views.png_uri(picture).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), picture)


class Tags(HTMLParser):
    """Collects the tags that are open, so that unbalanced or foreign ones show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that opens."""
        self.seen.append(tag)
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the tag that closes is the last that opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


@pytest.mark.parametrize(
    "html",
    [
        views.legend_html([views.ClassEntry(1, SCRIPT, 0.5)]),
        views.mark_html("error", SCRIPT, SCRIPT, SCRIPT),
        views.progress_html(0.5, SCRIPT, SCRIPT),
        views.table_html((SCRIPT, "b"), [(SCRIPT, SCRIPT)], SCRIPT),
        findings_html(Report(findings=(Finding(level="error", what=SCRIPT, where=SCRIPT, remedy=SCRIPT),))),
    ],
    ids=["legend", "mark", "progress", "table", "findings"],
)
def test_what_users_write_stays_text(html: str) -> None:
    tags = Tags(html)
    assert "script" not in tags.seen
    assert SCRIPT in tags.text
    assert tags.open == []


def test_findings_come_gravest_first_with_their_remedies() -> None:
    findings = tuple(
        Finding(level=level, what=f"what {level}", where="a.tif", remedy=f"do {level}")
        for level in ("info", "warning", "error")
    )
    text = Tags(findings_html(Report(findings=findings))).text
    places = [
        text.index(word)
        for level in ("error", "warning", "info")
        for word in (f"what {level}", f"do {level}")
    ]
    assert places == sorted(places)
    assert "✓" not in text
    assert "✓" in Tags(findings_html(Report(findings=findings[:2]))).text


def test_a_legend_names_every_class_with_its_share() -> None:
    entries = views.class_entries({255: 780, 0: 220}, ["membrane"])
    assert [(entry.value, entry.name) for entry in entries] == [(0, "membrane"), (255, "")]
    html = views.legend_html(entries)
    for part in ("membrane", "255", "22 %", "78 %", views.class_colour(0), views.class_colour(1)):
        assert part in html


def test_progress_says_its_value_to_screen_readers_and_never_leaves_its_bounds() -> None:
    assert 'aria-valuenow="42"' in views.progress_html(0.42, "epoch 3")
    assert 'aria-valuenow="100"' in views.progress_html(7.0, "epoch 3")
    assert "aria-valuenow" not in views.progress_html(None, "starting")


@given(st.floats(0, 4e6))
@settings(deadline=None)
def test_a_duration_can_be_read_back(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    words = views.duration_text(seconds).split()
    value = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    smallest = units[words[-1]]
    assert abs(value - seconds) <= (0.06 if smallest == 1 and seconds < 10 else 60 * smallest)
    assert len(words) <= 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (views.duration_text(59.7), "1 min"),
        (views.duration_text(3599.9), "1 h"),
        (views.duration_text(float("nan")), "–"),
        (views.count_text(999), "999"),
        (views.count_text(999_900), "1.0 M"),
        (views.count_text(31_043_586), "31 M"),
        (views.bytes_text(2_500), "2.5 kB"),
        (views.bytes_text(0), "0 B"),
        (views.share_text(0), "0 %"),
        (views.share_text(1), "100 %"),
    ],
)
def test_numbers_in_words(text: str, expected: str) -> None:
    assert text == expected
