"""Serves the web app: `python -m app [--host --port --share --auth user:password …]`."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.light_start import light_start
from segcore.workspace import ENVIRONMENT, Workspace

if TYPE_CHECKING:
    import gradio as gr

    from app.services import Services

SETTLE_SECONDS = 10.0
"""The first page is built by the browser and answered by this process: what can wait does not disturb it."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
log = logging.getLogger("segcore.app")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(prog="python -m app", description="Serve the web app of Segcore Studio.")
    add = result.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for the network (default: 127.0.0.1)",
    )
    add("--port", type=int, default=7860, help="port (default: 7860)")
    add("--share", action="store_true", help="also open a public link through gradio.live")
    add("--auth", nargs="+", metavar="USER:PASSWORD", type=_credentials, help="who may log in")
    add(
        "--workspace",
        type=Path,
        metavar="FOLDER",
        help=f"folder to serve (default: ${ENVIRONMENT} or ./workspace)",
    )
    add("--no-worker", action="store_true", help="never start a worker: one runs elsewhere")
    add("--max-upload-gb", type=float, default=20.0, metavar="GB", help="largest upload (default: 20)")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the app until Ctrl-C."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    workspace = Workspace.open(options.workspace)
    prepare_environment(workspace)
    with light_start():
        services, page, url, public = _serve(options, workspace)
    log.info("Segcore Studio serves %s on %s", workspace.root, url)
    if options.share:
        log.info("Public address: %s", public or "none, gradio.live did not answer")
    if open_to_all(options):
        log.warning(
            "Everyone who reaches this address can use and delete files: consider --auth user:password."
        )
    threading.Thread(target=after_launch, args=(services,), daemon=True).start()
    page.block_thread()
    return 0


def _serve(options: argparse.Namespace, workspace: Workspace) -> tuple[Services, gr.Blocks, str, str]:
    """Build the page and serve it; return also its address, and the public one if asked for."""
    # Gradio reads its environment when it is imported.
    from app.build import build
    from app.services import Services

    services = Services(workspace, options.max_upload_gb, worker=not options.no_worker)
    page = build(services)
    _, url, public = page.launch(
        server_name=options.host,
        server_port=options.port,
        share=options.share,
        auth=options.auth,
        prevent_thread_lock=True,
        quiet=True,
        # Otherwise Gradio gives up when it does not hear from itself within 3 s, as on a machine that trains.
        _frontend=False,
        **launch_options(services),
    )
    return services, page, url, public


def open_to_all(options: argparse.Namespace) -> bool:
    """Say whether others than the users of this machine get in without a password."""
    return not options.auth and (options.share or options.host not in LOOPBACK)


def prepare_environment(workspace: Workspace) -> None:
    """Keep Gradio from calling home, and its temporary files on the disk of the workspace."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # So many calls of an event at a time, unless it has its own; `Blocks.queue` would make a second server.
    os.environ.setdefault("GRADIO_DEFAULT_CONCURRENCY_LIMIT", "8")
    os.environ.setdefault("GRADIO_TEMP_DIR", str(workspace.state / "web"))


def launch_options(services: Services) -> dict[str, Any]:
    """Return what every launch needs: the look, what may be served, and how large an upload may be."""
    from starlette.middleware import Middleware

    from app import controls
    from app.lean import Lean
    from app.theme import CSS, theme
    from app.zips import zip_route

    workspace = services.workspace
    return {
        "theme": theme(),
        "css_paths": [CSS, controls.CSS],
        "app_kwargs": {"middleware": [Middleware(Lean)], "routes": [zip_route(workspace)]},
        "allowed_paths": [str(path) for path in (workspace.data, workspace.models, workspace.results)],
        "max_file_size": int(services.max_upload_gb * 1e9),
        "show_error": False,
        "ssr_mode": False,
        "enable_monitoring": False,
        "footer_links": ["api", "settings"],
    }


def after_launch(services: Services) -> None:
    """Take up waiting jobs, measure the machine and import MLflow, while the page is already there."""
    from app.session import Problem, attempt

    attempt(services.control.wake)
    time.sleep(SETTLE_SECONDS)
    if not services.measured_lately():
        subprocess.run(
            [sys.executable, "-m", "segcore.measure", str(services.workspace.root)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    outcome = attempt(services.models.warm_up)
    if isinstance(outcome, Problem):
        log.warning("%s %s", outcome.message, outcome.remedy)


def _credentials(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise argparse.ArgumentTypeError(f"{text!r} is not USER:PASSWORD")
    return user, password


if __name__ == "__main__":
    sys.exit(main())
