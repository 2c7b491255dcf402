"""Files that are whole or absent, and the folder that may be deleted at any time."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from affectscope.errors import AffectscopeError


def cache_dir() -> Path:
    """Where converted models and activations are kept: ``$AFFECTSCOPE_CACHE``, else the XDG cache folder."""
    root = os.environ.get("AFFECTSCOPE_CACHE")
    if root:
        return Path(root).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "affectscope"


@contextmanager
def disk_errors(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn a full or read-only disk into an :class:`AffectscopeError` that names ``path`` and the ``option`` that chose it."""
    try:
        yield
    except OSError as error:
        # safetensors wraps the system's error, so the text is the only witness there.
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise AffectscopeError(f"the disk is full while writing {path}: free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.EFBIG):
            raise AffectscopeError(
                f"cannot write {path}: {error.strerror}; choose another place with {option}"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise AffectscopeError(
                f"cannot write {path}: {error.strerror}; choose another name with {option}"
            ) from error
        raise


@contextmanager
def replacing(path: Path, option: str = "--out") -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its name only if the block ends well. ``option`` chose the place.

    Raises :class:`AffectscopeError` when the disk is full or not writable; nothing half-written stays.
    """
    path = Path(path)
    with disk_errors(path, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As :func:`replacing`, for a folder that must not exist yet. Of two processes that make the same at once the first one's stays."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            temporary.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(value: object, indent: int | None = None) -> str:
    """JSON that every reader accepts: NaN and Inf become null."""

    def finite(item: object) -> object:
        if isinstance(item, float):
            return item if math.isfinite(item) else None
        if isinstance(item, dict):
            return {key: finite(inner) for key, inner in item.items()}
        return [finite(inner) for inner in item] if isinstance(item, list | tuple) else item

    try:  # nearly everything is finite, and walking through it in Python takes longer than writing it
        return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), ensure_ascii=False, indent=indent, allow_nan=False)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
