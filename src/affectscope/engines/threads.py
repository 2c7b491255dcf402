"""The threads that torch's sums run on, given back by a thread that needs them no more.

libgomp keeps a pool for each thread that ever ran a parallel sum. Once all pools together have more threads than there are processors,
its workers no longer wait by spinning but sleep, and every sum begins with waking them: hundreds a token. So who loaded a model gives
its pool back before the engine's own thread begins. On a machine of two cores a pass of one token then takes 37 ms and not 63.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

_HARD = 2  # omp_pause_hard: the pool itself goes


def release_threads() -> bool:
    """Give back the calling thread's pool; its next sum makes another. Whether there is a libgomp that can."""
    gomp = _libgomp()
    return gomp is not None and gomp.omp_pause_resource_all(_HARD) == 0


@cache
def _libgomp() -> ctypes.CDLL | None:
    """The libgomp that torch brought along; None for a torch with another runtime."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        try:
            library = ctypes.CDLL(str(path))
            library.omp_pause_resource_all.argtypes, library.omp_pause_resource_all.restype = (
                [ctypes.c_int],
                ctypes.c_int,
            )
        except (OSError, AttributeError):
            continue
        return library
    return None
