"""The first thing that runs in a box: closes what can be closed from within, then becomes the guest.

Standard library only: it runs by its path in the guest's own interpreter, `python -I inside.py SETTINGS [ARGUMENT...]`.
SETTINGS is JSON: ``limits`` (resource name to bound), ``landlock`` (``read`` and ``write`` folders, or null), ``seccomp``
(a descriptor with a BPF program, or null), ``program`` (a Python file).
"""

import ctypes
import json
import os
import resource
import runpy
import struct
import sys

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_READ = 0x1 | 0x4 | 0x8  # execute, read a file, list a folder
_LAST_FILESYSTEM_RIGHT = {1: 13, 2: 14, 3: 15, 4: 15}
_libc = ctypes.CDLL(None, use_errno=True)


def landlock(read: list, write: list) -> None:
    """Nothing but these folders, no TCP, no abstract sockets of others, no signals outwards; as much as this kernel knows."""
    version = _libc.syscall(_CREATE, None, 0, 1)
    if version < 1:
        raise OSError("no Landlock in this kernel")
    rights = (1 << _LAST_FILESYSTEM_RIGHT.get(version, 16)) - 1
    attributes = struct.pack("QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _libc.syscall(_CREATE, ctypes.c_char_p(attributes), size, 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for folders, allowed in ((read, _READ), (write, rights)):
        for folder in folders:
            try:
                opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            here = allowed if os.path.isdir(folder) else allowed & (0x1 | 0x2 | 0x4 | 0x4000 | 0x8000)
            if _libc.syscall(_ADD, rules, 1, ctypes.c_char_p(struct.pack("=Qi", here & rights, opened)), 0):
                raise OSError(ctypes.get_errno(), f"landlock_add_rule {folder}")
            os.close(opened)
    _no_new_privileges()
    if _libc.syscall(_RESTRICT, rules, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(rules)


def seccomp(descriptor: int) -> None:
    """Put the BPF program of ``descriptor`` before every further system call."""
    with os.fdopen(descriptor, "rb") as file:
        program = file.read()
    held = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
    _no_new_privileges()
    if _libc.prctl(22, 2, ctypes.c_char_p(filter_), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def _no_new_privileges() -> None:
    if _libc.prctl(38, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")


def main() -> None:
    """Bound, lock, filter; then run the guest."""
    settings = json.loads(sys.argv[1])
    for name, bound in settings["limits"].items():
        resource.setrlimit(getattr(resource, name), (bound, bound))
    if settings["landlock"] is not None:
        landlock(**settings["landlock"])
    if settings["seccomp"] is not None:
        seccomp(settings["seccomp"])
    del sys.argv[:2]
    sys.argv.insert(0, settings["program"])
    sys.path.insert(0, os.path.dirname(settings["program"]))
    runpy.run_path(settings["program"], run_name="__main__")


if __name__ == "__main__":
    main()
