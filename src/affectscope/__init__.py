"""affectscope: an oscilloscope, and a circuit breaker, for the functional emotions of language models.

The public names are the commands' verbs and load on first use, so that ``import affectscope`` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affectscope.api import audit as audit
    from affectscope.api import extract as extract
    from affectscope.api import validate as validate
    from affectscope.concepts.stories import load_stories as load_stories
    from affectscope.errors import AffectscopeError as AffectscopeError
    from affectscope.guarding.guard import guard as guard
    from affectscope.models.load import load as load
    from affectscope.models.load import wrap as wrap
    from affectscope.monitoring.scan import scan as scan
    from affectscope.monitoring.watch import watch as watch
    from affectscope.vectors.artefact import ConceptVectors as ConceptVectors
    from affectscope.vectors.artefact import load_vectors as load_vectors

__version__ = "0.1.0"

_PUBLIC = {
    "AffectscopeError": "affectscope.errors",
    "ConceptVectors": "affectscope.vectors.artefact",
    "audit": "affectscope.api",
    "extract": "affectscope.api",
    "guard": "affectscope.guarding.guard",
    "load": "affectscope.models.load",
    "load_stories": "affectscope.concepts.stories",
    "load_vectors": "affectscope.vectors.artefact",
    "scan": "affectscope.monitoring.scan",
    "validate": "affectscope.api",
    "watch": "affectscope.monitoring.watch",
    "wrap": "affectscope.models.load",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'affectscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
