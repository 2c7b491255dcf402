"""What Inspect AI finds under the entry point ``affectscope``: names now, everything heavy when it is used.

``affectscope/MODEL`` is a model, ``affectscope`` a sandbox, ``affectscope/impossible_code`` and its neighbours are tasks,
``affectscope/barrier`` is an approver, and ``affectscope/affect_protocol`` a sentinel where ``inspect-sentinel`` is installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from inspect_ai.model import ModelAPI, modelapi

from affectscope.integrations.inspect_barrier import barrier as barrier
from affectscope.integrations.inspect_sandbox import BoxEnvironment as BoxEnvironment
from affectscope.integrations.inspect_tasks import blackmail as blackmail
from affectscope.integrations.inspect_tasks import impossible_code as impossible_code
from affectscope.integrations.inspect_tasks import sycophancy as sycophancy

if TYPE_CHECKING or find_spec("inspect_sentinel") is not None:
    from affectscope.integrations.inspect_sentinel_adapters import affect_monitor as affect_monitor
    from affectscope.integrations.inspect_sentinel_adapters import affect_protocol as affect_protocol


@modelapi("affectscope")
def affectscope_model() -> type[ModelAPI]:
    """The provider; torch is imported with it."""
    from affectscope.integrations.inspect_provider import AffectscopeAPI

    return AffectscopeAPI
