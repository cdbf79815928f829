"""Zarr stores behind a URL: opened through fsspec, with an end to every wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from segcore.errors import DataError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""A server that is silent for so long is taken to be away."""
_CHECK = "Check the address and the network, or download the data."
_ANONYMOUS = (
    "Log in to the storage; a public bucket is read with the environment variable FSSPEC_S3_ANON=true."
)
_WEB = ("http", "https")
_S3 = ("s3", "s3a")


def open_store(url: str) -> Any:
    """Return a read-only Zarr store for a URL; nothing is fetched yet.

    Raises
    ------
    DataError
        The protocol is unknown, or the package that speaks it is missing.
    """
    from zarr.storage import FsspecStore

    protocol = url.partition("://")[0].rpartition("::")[2].lower()
    try:
        return FsspecStore.from_url(url, storage_options=_options(protocol), read_only=True)
    except ImportError as error:
        raise DataError(
            f"{url} cannot be opened: {error}.",
            f"Install what reads {protocol}:// addresses, or download the data.",
        ) from error
    except ValueError as error:
        raise DataError(
            f"{url} cannot be opened: {error}.", "Give an address that begins with https:// or s3://."
        ) from error


@contextmanager
def as_unreachable(url: str) -> Iterator[None]:
    """Turn what goes wrong between us and a server into a DataError that says which of the two to ask.

    Raises
    ------
    DataError
        Nothing is there, the server is silent, or it refuses.
    """
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"{url} holds no Zarr image: neither zarr.json nor .zarray nor .zgroup is there.",
            "Check the address: it must be that of the Zarr's folder.",
        ) from error
    except TimeoutError as error:
        raise DataError(f"{url} does not answer.", _CHECK) from error
    # aiohttp, botocore and the other clients share no class of errors.
    except Exception as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = _ANONYMOUS if type(error).__name__ == "NoCredentialsError" else _CHECK
        raise DataError(f"{url} cannot be read: {detail[:200]}.", remedy) from error


def _options(protocol: str) -> dict[str, Any]:
    if protocol in _WEB:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        return {"client_kwargs": {"timeout": timeout}}
    if protocol in _S3:
        return {"config_kwargs": {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS}}
    return {}
