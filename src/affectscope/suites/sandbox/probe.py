"""Which tier this machine gives: found out by running a guest that tries the walls, never by what is installed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from affectscope.errors import AffectscopeError
from affectscope.suites.sandbox.box import TIERS, Box, Tier
from affectscope.suites.sandbox.hostfiles import read_beneath
from affectscope.suites.sandbox.limits import Limits

_CANARY = """
import ctypes, json, os, socket, sys
def denied(what):
    try:
        what()
    except OSError:
        return True
    return False
def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), 1).close()
print(json.dumps({
    "reads outside": not denied(lambda: open(sys.argv[1]).read()),
    "writes outside": not denied(lambda: open(sys.argv[1], "a")),
    "reaches the host's loopback": not denied(connect),
    "makes a namespace": ctypes.CDLL(None).unshare(0x10000000) == 0,
    "sees the host's processes": os.path.exists("/proc/%s/stat" % sys.argv[3]) and os.getppid() > 2,
    "writes its own folder": not denied(lambda: open("canary", "w").close()),
}))
"""
_ALLOWED = {"landlock": {"sees the host's processes", "writes its own folder"}}


@dataclass(frozen=True)
class Probed:
    """The strongest tier that holds here, and for each stronger one why it does not."""

    tier: Tier | None
    refused: dict[str, str]


@cache
def probe() -> Probed:
    """Try the tiers, strongest first; the answer is kept for the life of the process."""
    refused: dict[str, str] = {}
    for tier in TIERS[:-1]:
        cause = _try(tier)
        if not cause:
            return Probed(tier, refused)
        refused[tier] = cause
    return Probed(None, refused)


def require(tier: Tier) -> Tier:
    """The strongest tier here, if it is ``tier`` or stronger.

    Raises:
        AffectscopeError: the machine gives less; nothing is run, and the message says what is missing.
    """
    found = probe()
    if found.tier is None or TIERS.index(found.tier) > TIERS.index(tier):
        cause = found.refused.get(tier) or next(iter(found.refused.values()), "unknown")
        raise AffectscopeError(
            f"the sandbox tier {tier!r} is not to be had here ({cause}): install bubblewrap and libseccomp2, "
            f"or accept {found.tier or 'nothing'} with --sandbox"
        )
    return found.tier


def _try(tier: Tier) -> str:
    """Why a tier does not hold; empty when it does."""
    import json
    import os
    import socket

    with tempfile.TemporaryDirectory() as place, socket.socket() as listening:
        work, outside = Path(place, "work"), Path(place, "outside")
        work.mkdir()
        outside.write_text("secret", encoding="ascii")
        (work / "canary.py").write_text(_CANARY, encoding="ascii")
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        try:
            box = Box(work, tier, Limits(seconds=20))
            ran = box.python("canary.py", str(outside), str(listening.getsockname()[1]), str(os.getpid()))
        except (AffectscopeError, OSError) as error:
            return str(error)
        if ran.code:
            said = ran.err.decode(errors="replace").strip().splitlines()
            return said[-1][:160] if said else f"it ended with {ran.code}"
        found = json.loads(ran.out)
        if found["writes its own folder"]:
            try:
                read_beneath(work, "canary")
            except AffectscopeError as error:
                return f"the host cannot read what a guest left: {error}"
    holes = [
        name for name, open_ in found.items() if open_ and name not in _ALLOWED.get(tier, {"writes its own folder"})
    ]
    return (
        f"a guest {holes[0]}" if holes else "" if found["writes its own folder"] else "a guest cannot write its folder"
    )
