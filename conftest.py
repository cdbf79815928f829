"""Where a browser, the real data or Redis are required, a test that skips for want of them fails."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

REQUIREMENTS = {
    "browser": "SEGCORE_REQUIRE_BROWSER",
    "realdata": "SEGCORE_REQUIRE_DATA",
    "redis": "SEGCORE_REQUIRE_REDIS",
}


def _required(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where the environment says that the test must run."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        for marker, variable in REQUIREMENTS.items():
            if item.get_closest_marker(marker) and _required(variable):
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
                report.outcome = "failed"
                report.longrepr = f"{variable} is set, so this {marker} test may not be skipped: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a file that skips itself as a whole: nobody could tell what its tests would have needed."""
    report = yield
    if report.skipped and any(_required(variable) for variable in REQUIREMENTS.values()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skips itself as a whole, which hides its tests: {reason}"
    return report
