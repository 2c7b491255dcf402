"""Hashes of what a server serves, held from one start to the next: a file that was changed in between is not served in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from affectscope.errors import AffectscopeError
from affectscope.files import json_text, replacing

FORMAT = "affectscope/pins@1"


def require_pins(path: Path, hashes: Mapping[str, str]) -> None:
    """Refuse parts that are not those of the first start; the first start writes the file.

    Raises:
        AffectscopeError: a part differs, is new or is missing; or the file cannot be read or written.
    """
    if not path.exists():
        with replacing(path, "--pins") as temporary:
            temporary.write_text(json_text({"format": FORMAT, "hashes": dict(hashes)}, indent=1), encoding="utf-8")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["format"] != FORMAT:
            raise ValueError
        pinned = {str(name): str(value) for name, value in known["hashes"].items()}
    except OSError as error:
        raise AffectscopeError(f"cannot read the pins {path}: {error.strerror}; check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AffectscopeError(f"{path} is no {FORMAT} file: remove it to pin what is served now") from error
    for name in sorted(pinned.keys() | hashes.keys()):
        if pinned.get(name) != hashes.get(name):
            raise AffectscopeError(
                f"{name} is not what was pinned in {path} ({_short(pinned.get(name))} was, {_short(hashes.get(name))} is): "
                "put the file back, or remove the pins if the change is meant"
            )


def _short(value: str | None) -> str:
    return value[:12] if value else "nothing"
