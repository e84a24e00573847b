"""Files too large for the package: kept in one folder, checked at every use, downloaded when missing or damaged."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from tqdm.auto import tqdm

ATTEMPTS = 2  # rounds over all addresses
TIMEOUT = 30.0  # seconds without an answer or without a byte
_CHUNK = 1 << 16  # bytes


class DataUnavailable(OSError):
    """A file is neither in the data folder nor to be had from the network. The message says what to do."""


def folder() -> Path:
    """Where downloaded data lives: `$GENTEXT_DATA`, or "gentext" in the user's cache folder. It need not exist yet."""
    chosen = os.environ.get("GENTEXT_DATA")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "gentext"


def read(name: str, sha256: str, addresses: Callable[[], Sequence[str]]) -> bytes:
    """The content of the file `name` (a path below `folder()`) whose SHA-256 checksum is `sha256` in hexadecimal.

    A file that is there and whole is only read: the folder may be read-only. One that is missing or damaged (a download
    cut short, say) is fetched from one of `addresses()` and put in place in one step: no reader sees half a file.

    Raises:
        DataUnavailable: the file cannot be had. What is in the folder stays as it was.
    """
    path = folder() / name
    if path.is_file():
        content = path.read_bytes()
        if _checksum(content) == sha256:
            return content
        warnings.warn(f"{path} is damaged ({len(content)} bytes, wrong checksum): downloading it again.", stacklevel=2)
    content = _download(name, path, sha256, addresses())
    try:
        _keep(path, content)
    except OSError as error:
        advice = "set GENTEXT_DATA to a folder that can be written, or it is downloaded at every use"
        warnings.warn(f"{path} could not be written ({error.strerror}): {advice}.", stacklevel=2)
    return content


def _download(name: str, path: Path, sha256: str, addresses: Sequence[str]) -> bytes:
    """The first content with the right checksum that an address gives."""
    trouble = "no address is known"
    for address in [*addresses] * ATTEMPTS:
        try:
            content = _receive(address, path.name)
        except (OSError, HTTPException) as error:  # URLError is an OSError
            trouble = f"{type(error).__name__}: {error}"
            continue
        if _checksum(content) == sha256:
            return content
        trouble = f"{len(content)} bytes came with a wrong checksum"
    raise DataUnavailable(
        f"{path.name} could not be downloaded ({trouble}): connect to the network and try again, put the file into "
        f"{path.parent}, or set GENTEXT_DATA to a folder that holds {name}."
    )


def _receive(address: str, label: str) -> bytes:
    """Everything that `address` sends, with a progress bar."""
    with urllib.request.urlopen(address, timeout=TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        received = bytearray()
        total = int(length) if length else None
        with tqdm(total=total, desc=label, unit="B", unit_scale=True, leave=False) as bar:
            while chunk := response.read(_CHUNK):
                received += chunk
                bar.update(len(chunk))
    return bytes(received)


def _keep(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step: a file beside it first, then its new name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
