"""`segcore models`: every family is listed with what decides between them, and nothing heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from segcore.cli import main
from segcore.families import FAMILIES


def test_every_family_is_listed_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["families"]
    assert [family["name"] for family in listed] == list(FAMILIES)
    for family in listed:
        assert family["kinds"]
        assert set(family["dimensions"]) <= {"2d", "2.5d", "3d"}
        assert family["constraints"]
        assert family["parameters"] > 10**6
        assert family["good_for"].endswith(".")
        assert family["costs"].endswith(".")
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(family.good_for in text and family.costs in text for family in FAMILIES.values())


def test_the_list_starts_without_torch() -> None:
    code = (
        "import sys; from segcore.cli import main; main(['models']); "
        "sys.exit(bool({'torch', 'timm', 'transformers', 'monai'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
