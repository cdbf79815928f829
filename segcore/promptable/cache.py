"""EmbeddingCache: what a network made of planes, on disk, because making it takes seconds. Torch-free."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.index import cache_folder
from segcore.files import atomic_path
from segcore.promptable.promptable import Embedding, Promptable

LIMIT = 4 * 2**30
"""Bytes that are kept: some hundred planes of SAM 2, a thousand of SAM."""


def plane_key(plane: np.ndarray, network: str) -> str:
    """Return the hash of a plane, its shape and type, and the key of a network."""
    digest = hashlib.blake2b(f"{network} {plane.shape} {plane.dtype.str}".encode(), digest_size=20)
    digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


class EmbeddingCache:
    """Embeddings in files; of too many those that were not asked for the longest time go.

    What cannot be read is as if it were not there, and what cannot be written is not kept.

    Parameters
    ----------
    folder : Path, optional
        Where they lie; by default `embeddings` in $SEGCORE_CACHE, or in the user's cache folder.
    limit : int
        Bytes that are kept.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder = folder or cache_folder() / "embeddings"
        self.limit = limit

    def embed(self, network: Promptable, plane: np.ndarray) -> Embedding:
        """Return what `network` makes of a plane: as kept, else made and kept.

        Raises
        ------
        DataError
            The plane is none, see `Promptable.embed`.
        """
        key = plane_key(plane, network.key)
        found = self.find(key)
        if found is None:
            made = network.embed(plane)
            found = Embedding(key, made.size, made.share, made.features)
            self.keep(found)
        return found

    def find(self, key: str) -> Embedding | None:
        """Return an embedding that is kept, and count it as asked for."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as content:
                size, share = content["size"].tolist(), content["share"].tolist()
                features = tuple(content[f"features{at}"] for at in range(len(content.files) - 2))
            os.utime(path)
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return Embedding(key, (int(size[0]), int(size[1])), (share[0], share[1]), features)

    def keep(self, embedding: Embedding) -> None:
        """Write an embedding, and remove the oldest until there is room for it."""
        arrays: dict[str, Any] = {f"features{at}": array for at, array in enumerate(embedding.features)}
        try:
            with atomic_path(self._path(embedding.key)) as temporary, temporary.open("wb") as stream:
                np.savez(stream, size=embedding.size, share=embedding.share, **arrays)
            self._shrink()
        except OSError:  # a full or read-only disk: it is made again next time
            return

    def _shrink(self) -> None:
        files = [(path, path.stat()) for path in self.folder.glob("*.npz")]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda one: one[1].st_mtime_ns):
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"
