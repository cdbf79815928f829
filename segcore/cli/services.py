"""`segcore serve`, `segcore worker` and `segcore demo`: the commands that run until they are told to end."""

from __future__ import annotations

from segcore.cli.parser import Parser, UsageError, add_common
from segcore.serve import Ports, serve
from segcore.workspace import Workspace


def serve_command(words: list[str]) -> int:
    """Run `segcore serve`."""
    parser = Parser("serve", "Serve the web app, a worker and the MLflow UI until Ctrl-C.")
    add_common(parser, as_json=False)
    _add_ports(parser)
    parser.add_argument(
        "--share", action="store_true", help="also open a public address of the app through gradio.live"
    )
    parser.add_argument(
        "--auth",
        nargs="+",
        default=[],
        metavar="USER:PASSWORD",
        help="who may log in to the app; the MLflow UI has no login",
    )
    options = parser.parse_args(words)
    return serve(
        Workspace.open(options.workspace),
        Ports(options.host, options.port, options.mlflow_port),
        _app_options(options.share, options.auth),
    )


def _app_options(share: bool, auth: list[str]) -> list[str]:
    wrong = [pair for pair in auth if not all(pair.partition(":"))]
    if wrong:
        raise UsageError(
            f"--auth: {', '.join(map(repr, wrong))} is not USER:PASSWORD.", "Write ada:her-password."
        )
    return [*(["--share"] if share else []), *(["--auth", *auth] if auth else [])]


def worker_command(words: list[str]) -> int:
    """Run `segcore worker`."""
    parser = Parser("worker", "Work the jobs that the web app and --queue submit, until Ctrl-C.")
    add_common(parser, as_json=False)
    parser.add_argument(
        "--follow", type=int, metavar="PID", help="end when this process is gone and no job is left"
    )
    parser.add_argument(
        "--devices",
        metavar="LIST",
        help="devices to work on, each a training and a segmentation at a time: cuda:0,cuda:1 or cpu "
        "(default: every GPU, and the CPU)",
    )
    options = parser.parse_args(words)
    from segcore.worker.service import run_worker
    from segcore.worker.slots import parse_devices

    devices = parse_devices(options.devices) if options.devices else ()
    run_worker(Workspace.open(options.workspace), options.follow, devices)
    return 0


def demo_command(words: list[str]) -> int:
    """Run `segcore demo`."""
    parser = Parser("demo", "Train a small model on simulated images, register it and apply it.")
    add_common(parser, as_json=False)
    parser.add_argument("--serve", action="store_true", help="go on like `segcore serve`")
    _add_ports(parser)
    options = parser.parse_args(words)
    from segcore.demo import run_demo

    workspace = Workspace.open(options.workspace)
    run_demo(workspace)
    if not options.serve:
        return 0
    return serve(workspace, Ports(options.host, options.port, options.mlflow_port))


def _add_ports(parser: Parser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address of both servers (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=7860, help="port of the app (default: 7860)")
    parser.add_argument("--mlflow-port", type=int, default=5000, help="port of the MLflow UI (default: 5000)")
