"""Lean: pages get the script, once and at the beginning; everything else passes as it is."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.lean import SCRIPT, Lean

PAGE = "<!doctype html><html><head><title>µ</title></head><body>&lt;head&gt;</body></html>"


@pytest.fixture
def client() -> TestClient:
    def page(_: Request) -> Response:
        return HTMLResponse(PAGE)

    def text(_: Request) -> Response:
        return PlainTextResponse(PAGE)

    routes = [Route("/", page), Route("/text", text)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Lean)]))


def test_a_page_begins_with_the_script(client: TestClient) -> None:
    shown = client.get("/").text
    before, _, rest = shown.partition("<script>{")
    script, _, after = rest.partition("}</script>")
    assert script.strip() == SCRIPT.read_text("utf-8").strip()
    assert before.endswith("<head>")
    assert before + after == PAGE


def test_what_is_no_page_passes_as_it_is(client: TestClient) -> None:
    answer = client.get("/text")
    assert answer.text == PAGE
    assert int(answer.headers["content-length"]) == len(PAGE.encode())


def test_the_script_does_not_end_its_own_tag() -> None:
    assert "</script" not in SCRIPT.read_text("utf-8")
