"""Keys of the server's users: who may infer, read, control or administer. A file holds their hashes, never the keys.

A key is 32 random bytes, so that one SHA-256 of it needs no salt and no stretching: there is nothing to guess. The file is
looked at again when it has changed, so keys come and go without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from affectscope.errors import AffectscopeError, dotted, first_problem
from affectscope.files import json_text, replacing

FORMAT = "affectscope/api-keys@1"
SCOPES = ("infer", "read", "control", "admin")
"""``infer``: ask for replies. ``read``: see one's own traces and sessions. ``control``: answer escalations, reset a stopped
session, steer. ``admin``: all of it, for every tenant."""
Scope = Literal["infer", "read", "control", "admin"]
PREFIX = "as-"
_AGAIN = 1.0


class Key(BaseModel):
    """One key of the file. ``tenant`` owns what is made with it; ``expires`` in seconds since the epoch, 0 for never."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    tenant: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    expires: float = Field(default=0, ge=0)

    def may(self, scope: str) -> bool:
        """Whether it has a scope; ``admin`` has all."""
        return scope in self.scopes or "admin" in self.scopes


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["affectscope/api-keys@1"]
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Shown:
    """A key as it may be shown: everything but its hash."""

    name: str
    tenant: str
    scopes: tuple[str, ...]
    expires: float

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class ApiKeys:
    """The keys of a file.

    Raises:
        AffectscopeError: a file that is missing or no file of keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp, self._looked = (0, 0), time.monotonic()
        self._keys: tuple[Key, ...] = ()
        self._read()

    def find(self, given: str) -> Key | None:
        """The key that ``given`` is, or None. Every known one is compared, each in constant time."""
        self._refresh()
        digest, found, now = _digest(given), None, time.time()
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest) and (not key.expires or now < key.expires):
                found = key
        return found

    def named(self, name: str) -> Key | None:
        """The key of a name, or None where there is none any more, or it has expired."""
        self._refresh()
        now = time.time()
        return next((k for k in self._keys if k.name == name and (not k.expires or now < k.expires)), None)

    def list(self) -> tuple[Shown, ...]:
        """What may be shown of them."""
        self._refresh()
        return tuple(Shown(k.name, k.tenant, k.scopes, k.expires) for k in self._keys)

    def _refresh(self) -> None:
        """Read the file again if it has changed. One that cannot be read any more leaves the keys as they are known."""
        if time.monotonic() - self._looked < _AGAIN:
            return
        self._looked = time.monotonic()
        try:
            stat = self.path.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._stamp:
                self._read()
        except (OSError, AffectscopeError):
            return

    def _read(self) -> None:
        try:
            stat = self.path.stat()  # before it is read, so that a change in between is seen the next time
            self._stamp = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            pass  # the reading tells why
        self._keys = _load(self.path)


def add_key(path: Path, name: str, scopes: Sequence[str], tenant: str = "default", days: float | None = None) -> str:
    """Put a new key into a file, made if need be; returns it, for this once.

    Raises:
        AffectscopeError: a name that is taken, an unknown scope, a file that cannot be read or written.
    """
    known = _load(path) if path.exists() else ()
    if any(key.name == name for key in known):
        raise AffectscopeError(f"{path} has a key {name!r} already: revoke it first, or choose another name")
    if not scopes or set(scopes) - set(SCOPES):
        raise AffectscopeError(f"a key needs scopes, some of {', '.join(SCOPES)}")
    if days is not None and not days > 0:
        raise AffectscopeError("a key must last longer than 0 days: leave --days out for one that does not expire")
    given = PREFIX + secrets.token_urlsafe(32)
    expires = time.time() + 86_400 * days if days is not None else 0
    try:
        key = Key(name=name, tenant=tenant, sha256=_digest(given), scopes=tuple(scopes), expires=expires)  # type: ignore[arg-type]
    except ValidationError as error:
        where, why = first_problem(error)
        raise AffectscopeError(f"the key's {dotted(where)} cannot be used: {why}") from error
    _save(path, (*known, key))
    return given


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of a file.

    Raises:
        AffectscopeError: there is none of this name.
    """
    known = _load(path)
    if all(key.name != name for key in known):
        raise AffectscopeError(f"{path} has no key {name!r}: it has {', '.join(k.name for k in known) or 'none'}")
    _save(path, tuple(key for key in known if key.name != name))


def _digest(given: str) -> str:
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()


def _load(path: Path) -> tuple[Key, ...]:
    remedy = "make one with `affectscope api-keys add NAME --keys FILE`"
    try:
        made = _File.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise AffectscopeError(f"cannot read the keys in {path}: {error.strerror}; {remedy}") from error
    except ValidationError as error:
        where, why = first_problem(error)
        raise AffectscopeError(f"{path} is no file of keys: {dotted(where)}: {why}; {remedy}") from error
    except ValueError as error:
        raise AffectscopeError(f"{path} is no file of keys: it is no JSON; {remedy}") from error
    names = [key.name for key in made.keys]
    if len(set(names)) != len(names):
        raise AffectscopeError(f"{path} has two keys of one name: names say who did what, so each may stand once")
    return made.keys


def _save(path: Path, keys: Sequence[Key]) -> None:
    with replacing(path, "--keys") as temporary:
        made = _File(format="affectscope/api-keys@1", keys=tuple(keys))
        temporary.write_text(json_text(made.model_dump(mode="json"), indent=1), encoding="utf-8")
    path.chmod(0o600)
