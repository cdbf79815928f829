"""Where MLflow keeps its data: an embedded store beside the workspace, or the server that is configured."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from filelock import FileLock

from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = "SEGCORE_MLRUNS"

# Defaults for MLflow's own settings; what the user has set wins.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    # MLflow's own defaults (120 s, 7 retries) would hold up a worker for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


def mlruns(workspace: Workspace) -> Path:
    """Return the folder of the embedded store: `$SEGCORE_MLRUNS`, or `mlruns` beside the workspace."""
    return Path(os.environ.get(ENVIRONMENT) or workspace.root.parent / "mlruns").expanduser().resolve()


def tracking_uri(workspace: Workspace) -> str:
    """Return the address of the store: `$MLFLOW_TRACKING_URI`, or the embedded SQLite database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{mlruns(workspace) / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Say whether a server that owns its artifacts is behind `uri`, not a database opened by this process."""
    return urlsplit(uri).scheme in ("http", "https") or uri.startswith("databricks")


def public_uri(uri: str) -> str:
    """Return `uri` without the user name and password it may hold."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def artifact_root(workspace: Workspace) -> str | None:
    """Return the file URI below which artifacts lie, or None where a server decides that."""
    return None if is_server(tracking_uri(workspace)) else (mlruns(workspace) / "artifacts").as_uri()


def load_mlflow(*modules: str) -> None:
    """Import MLflow (seconds, the first time), and modules of it, with `SETTINGS` and without its chatter."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # What MLflow and SQLAlchemy say to each other's authors is no business of our users.
        warnings.simplefilter("ignore")
        for module in ("mlflow", *modules):
            importlib.import_module(module)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.ERROR)


def ensure_ready(workspace: Workspace) -> None:
    """Make the folders and the tables of the embedded store; a server looks after itself.

    Raises
    ------
    OSError
        The folder cannot be made or written.
    mlflow.exceptions.MlflowException
        The database belongs to another version of MLflow, or is none.
    """
    root = artifact_root(workspace)
    if root is None:
        return
    folder = mlruns(workspace)
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    load_mlflow("mlflow.store.tracking.sqlalchemy_store")
    # Two processes that make the tables at once would leave a half-migrated database.
    with FileLock(folder / ".mlflow.lock"):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        uri = tracking_uri(workspace)
        if not uri.startswith("file:"):
            SqlAlchemyStore(uri, root)


def client(workspace: Workspace) -> MlflowClient:
    """Return a client of the store, which is ready for use; MLflow's global tracking address stays untouched.

    Raises
    ------
    OSError, mlflow.exceptions.MlflowException
        See `server_errors`. A server that is down shows only at the first request.
    """
    load_mlflow()
    ensure_ready(workspace)
    from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def server_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a store that is down, full or refusing. Imports MLflow: call it in `except`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # The errors of requests are OSErrors.
    return MlflowException, SQLAlchemyError, OSError


def local_path(location: str) -> Path | None:
    """Return the path behind an artifact address that lies on this machine, or None."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path) if parts.scheme else location)


def error_code(error: BaseException) -> str:
    """Return MLflow's name for the error, for example RESOURCE_DOES_NOT_EXIST; empty for other errors."""
    return str(getattr(error, "error_code", ""))


def explain(error: BaseException, uri: str) -> str:
    """Say in one line what went wrong with the store at `uri`."""
    shown = public_uri(uri)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if is_server(uri) and (
        "Max retries exceeded" in reason or "Connection" in reason or "timed out" in reason
    ):
        return f"The MLflow server at {shown} does not answer."
    return f"MLflow ({shown}) refused: {reason[:300].rstrip('.')}."
