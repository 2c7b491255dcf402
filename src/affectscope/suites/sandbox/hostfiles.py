"""Files that a guest left, read by the host: the classic way out of a box is a link that the host follows.

So no link is followed, no path leaves the folder, and only regular files of a bounded size are read: the kernel checks,
by ``openat2``.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

from affectscope.errors import AffectscopeError

_OPENAT2 = 437
_BENEATH, _NO_SYMLINKS, _NO_MAGICLINKS = 0x08, 0x04, 0x02


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def read_beneath(folder: Path, name: str, most: int = 1 << 20) -> bytes:
    """Content of a regular file at ``name`` under ``folder``.

    Raises:
        AffectscopeError: no such file, no regular one, a link on the way, a path out of the folder, or more than ``most``
            bytes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    how = _How(os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    parent = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        opened = libc.syscall(_OPENAT2, parent, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how))
    finally:
        os.close(parent)
    if opened < 0:
        raise AffectscopeError(f"{name} is not read: {os.strerror(ctypes.get_errno())} (no links, nothing outside)")
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise AffectscopeError(f"{name} is not read: it is no regular file")
    with os.fdopen(opened, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise AffectscopeError(f"{name} is not read: it holds more than {most} bytes")
    return content
