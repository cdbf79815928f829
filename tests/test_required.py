"""Where a browser, the real data or Redis are required, a test that skips for want of them fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest

@pytest.mark.browser
def test_browser():
    pytest.skip("no Chromium")

@pytest.mark.realdata
@pytest.mark.skipif(True, reason="no data")
def test_data():
    pass

@pytest.mark.redis
def test_redis():
    pytest.skip("no redis-server")

def test_other():
    pytest.skip("not on this system")
"""


def run_suite(folder: Path, **variables: str) -> str:
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "test_sample.py").write_text(TESTS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SEGCORE_REQUIRE")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header"]
    return subprocess.run(
        command, cwd=folder, env={**clean, **variables}, capture_output=True, text=True, check=False
    ).stdout


@pytest.mark.parametrize(
    ("variables", "outcome"),
    [
        ({}, "4 skipped"),
        ({"SEGCORE_REQUIRE_BROWSER": "0", "SEGCORE_REQUIRE_DATA": ""}, "4 skipped"),
        ({"SEGCORE_REQUIRE_BROWSER": "1"}, "1 failed, 3 skipped"),
        ({"SEGCORE_REQUIRE_REDIS": "1"}, "1 failed, 3 skipped"),
        ({"SEGCORE_REQUIRE_DATA": "1"}, "3 skipped, 1 error"),
    ],
)
def test_only_what_is_required_may_not_be_skipped(tmp_path, variables, outcome):
    assert outcome in run_suite(tmp_path, **variables).splitlines()[-1]


def test_a_file_may_not_skip_itself_and_hide_what_it_needs(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_whole.py").write_text(
        "import pytest\npytest.skip('no Chromium', allow_module_level=True)"
    )
    assert "1 error" in run_suite(tmp_path, SEGCORE_REQUIRE_BROWSER="1").splitlines()[-1]
    assert "5 skipped" in run_suite(tmp_path).splitlines()[-1]
