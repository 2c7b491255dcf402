"""What the self-contained pages share: their parts, and data that cannot break out of a script element."""

from __future__ import annotations

from importlib.resources import files

from markupsafe import Markup

from affectscope.files import json_text


def part(*names: str) -> Markup:
    """The text of template files, one after another, put into a page as it is."""
    folder = files("affectscope.report") / "templates"
    return Markup("".join((folder / name).read_text(encoding="utf-8") for name in names))


def embedded(value: object) -> Markup:
    """JSON for a script element: no "<" is left, so no text in it can end or swallow the element."""
    return Markup(json_text(value).replace("<", "\\u003c"))
