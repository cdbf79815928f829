"""The workspace folder, and the one place that turns a user's path into a path inside it, or refuses."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from segcore.addresses import is_url, join_address, split_address
from segcore.errors import DataError
from segcore.files import write_atomic

ALLOW_URLS = "SEGCORE_ALLOW_URLS"
SERVERS = ("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs")
"""Protocols that lead to a server; others, like file, lead back to this machine's disk."""
ENVIRONMENT = "SEGCORE_WORKSPACE"


@dataclass(frozen=True)
class Workspace:
    """Folder with the user's data, the runs and the results.

    Parameters
    ----------
    root : Path
        Absolute path of the folder.
    """

    root: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> Workspace:
        """Open (and make, if missing) the workspace at `path`, `$SEGCORE_WORKSPACE` or `./workspace`."""
        root = Path(path or os.environ.get(ENVIRONMENT) or "workspace").expanduser().resolve()
        workspace = cls(root)
        for folder in (workspace.data, workspace.models, workspace.results, workspace.state):
            folder.mkdir(parents=True, exist_ok=True)
        return workspace

    @property
    def data(self) -> Path:
        """The user's files."""
        return self.root / "data"

    @property
    def models(self) -> Path:
        """Training runs: `models/<session>/<training-id>/`."""
        return self.root / "models"

    @property
    def results(self) -> Path:
        """Segmentations: `results/<inference-id>/`."""
        return self.root / "results"

    @property
    def state(self) -> Path:
        """Our own files: queue, locks, measured speed of the machine."""
        return self.root / ".segcore"

    @property
    def identity(self) -> str:
        """Random name that the workspace keeps wherever it is moved or mounted."""
        path = self.state / "identity"
        with FileLock(self.state / "identity.lock"):
            if not path.exists():
                write_atomic(path, secrets.token_hex(8))
            return path.read_text()

    def resolve(self, path: str | os.PathLike[str]) -> Path:
        """Return the absolute path of `path` inside the workspace, links followed.

        Parameters
        ----------
        path : str or path
            Relative to the workspace, or absolute.

        Raises
        ------
        DataError
            The path leads outside the workspace, or into its state folder.
        """
        try:
            full = (self.root / Path(path)).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{str(path)!r} is not a path.", "Choose a file from the workspace.") from error
        if not full.is_relative_to(self.root) or full.is_relative_to(self.state):
            raise DataError(
                f"{str(path)!r} lies outside the workspace.",
                "Upload the file, or copy it into the workspace's data folder.",
            )
        return full

    def address(self, address: str) -> str:
        """Return the absolute address of a file, of an array in a file (`a.h5::raw`), or a URL.

        Raises
        ------
        DataError
            The path leads outside the workspace, or the address to a server and SEGCORE_ALLOW_URLS is not 1.
        """
        if is_url(address):
            if os.environ.get(ALLOW_URLS, "0") in ("", "0"):
                raise DataError(
                    f"{address!r} is on a server; the app opens files of the workspace only.",
                    f"Copy it into the workspace, or start the app with {ALLOW_URLS}=1.",
                )
            if address.partition("://")[0].lower() not in SERVERS:
                raise DataError(
                    f"{address!r} does not lead to a server.", "Give an https:// or s3:// address."
                )
            return address
        file, name = split_address(address)
        return join_address(self.resolve(file), name)

    def relative(self, path: str | os.PathLike[str]) -> str:
        """Return `path` relative to the workspace with forward slashes, or unchanged if it lies outside."""
        full = Path(path)
        return full.relative_to(self.root).as_posix() if full.is_relative_to(self.root) else str(full)
