"""Where the tokens lie: what huey keeps in SQLite or in Redis, as JSON."""

from __future__ import annotations

import json
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

from segcore.errors import JobError
from segcore.workspace import Workspace

SCHEMES = ("redis://", "rediss://", "unix://")
SQLITE_SECONDS = 30.0
"""How long to wait for a database that another process has locked."""
REDIS_SECONDS = 5.0
"""How long a Redis server may take to answer before it counts as unreachable."""


class _JsonSerializer(Serializer):
    """Queue entries as JSON: huey's default is pickle, and nothing that lies in a workspace is unpickled."""

    def _serialize(self, data: Message) -> bytes:
        return json.dumps(list(data)).encode()

    def _deserialize(self, data: bytes) -> Message:
        return Message(*json.loads(data))


def open_store(workspace: Workspace, line: str, url: str) -> Huey:
    """Open the tokens of a line: in SQLite in the workspace, or on the Redis server at `url`.

    Raises
    ------
    JobError
        `url` is no address of a Redis server.
    """
    options: dict[str, Any] = {"results": False, "serializer": _JsonSerializer()}
    if not url:
        path = str(workspace.state / "queue.db")
        return SqliteHuey(line, filename=path, timeout=SQLITE_SECONDS, strict_fifo=True, **options)
    if not url.startswith(SCHEMES):
        raise JobError(
            f"SEGCORE_QUEUE_URL is {_without_password(url)!r}, which is no address of a Redis server.",
            "Write redis://host:6379/0, or unset it to keep the queue in the workspace.",
        )
    from redis import ConnectionPool

    pool = ConnectionPool.from_url(
        url, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS, health_check_interval=30
    )
    # Two workspaces may share a server: each has keys of its own, on whatever host it is mounted.
    name = f"segcore_{workspace.identity}_{line}"
    return RedisHuey(name, connection_pool=pool, blocking=False, **options)


def _without_password(url: str) -> str:
    scheme, _, rest = url.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest
