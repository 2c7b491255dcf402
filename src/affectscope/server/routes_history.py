"""Past episodes: which there are, one of them whole, what a policy did in them, and what another would have done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from itertools import accumulate
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from affectscope.errors import AffectscopeError
from affectscope.files import json_text
from affectscope.guarding.guard import guard_of
from affectscope.guarding.policy import Policy, parse
from affectscope.guarding.replay import replay
from affectscope.monitoring.store import Store
from affectscope.report.trace_page import trace_data
from affectscope.server.answers import OneTrace, Policies, Replayed, Traces
from affectscope.server.api_keys import Key
from affectscope.server.bodies import read_body
from affectscope.server.errors import RefusedError
from affectscope.server.gate import require, sees
from affectscope.server.openapi import answers, asks
from affectscope.server.served import Served
from affectscope.server.state import State

router = APIRouter(prefix="/v1/affect")
MOST_ROWS, MOST_REPLAYED, MOST_NESTED = 1000, 500, 32


class DryRun(BaseModel):
    """A policy to try on past episodes: one that is served, by name, or ``yaml``. Nothing is run again, and nothing is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(default="", max_length=64)
    yaml: str = Field(default="", max_length=16_384)
    limit: int = Field(default=100, ge=1, le=MOST_REPLAYED)


@router.get("/traces", **answers(Traces, 404))
async def traces(
    request: Request,
    limit: Annotated[int, Query(description=f"Rows, at most {MOST_ROWS}.")] = 100,
    alarm: Annotated[bool | None, Query(description="With an alarm, or without.")] = None,
    concept: Annotated[str, Query(description="With an alarm of a served rule that watches it.")] = "",
    action: Annotated[str, Query(description="In which it was taken.")] = "",
    session: Annotated[str, Query(description="Of this name.")] = "",
    since: Annotated[float | None, Query(description="Seconds since the epoch.", allow_inf_nan=False)] = None,
    until: Annotated[float | None, Query(description="Seconds since the epoch.", allow_inf_nan=False)] = None,
    before: Annotated[
        int | None, Query(description="The `number` of the last row of the page before.", ge=0, lt=2**63)
    ] = None,
) -> Response:
    """The tenant's traces, the last saved first."""
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    store = _store(state)
    if not 1 <= limit <= MOST_ROWS:
        raise RefusedError(400, f"limit is {limit}: give 1 to {MOST_ROWS}", param="limit")
    rows = await asyncio.to_thread(
        store.list,
        since=since,
        until=until,
        alarm=alarm,
        rules=_watching(state.served, concept) if concept else None,
        action=action or None,
        tag=_mine(key) | ({"talk": session} if session else {}),
        before=before,
        limit=limit,
    )
    return _json({"object": "list", "data": [asdict(row) for row in rows]})


@router.get("/traces/{name}", **answers(OneTrace, 404))
async def trace(request: Request, name: Annotated[str, Path(description="Of the trace.")]) -> Response:
    """One trace with its readings; another tenant's is not there."""
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    store = _store(state)
    try:
        found = await asyncio.to_thread(store.load, name)
    except AffectscopeError as error:
        raise RefusedError(404, f"there is no trace {name!r}", code="trace_not_found") from error
    if not sees(key, found.tags.get("tenant", "")):
        raise RefusedError(404, f"there is no trace {name!r}", code="trace_not_found")
    watch = [c for c in state.hub.concepts if c in found.concepts]
    told = {"tags": dict(found.tags), "settings": dict(found.settings), "finished": found.finished}
    times = {"started": found.started, "ended": found.ended}
    return await asyncio.to_thread(lambda: _json({**told, **times, **trace_data(found, watch=watch)}))


@router.get("/policies", **answers(Policies))
async def policies(request: Request) -> Response:
    """The served policies whole, their thresholds, and how often what happened in the tenant's kept traces."""
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    served = state.served
    limits = served.calibration
    told = []
    for policy in served.policies.values():
        happened: Mapping[str, Any] = {"alarm": {}, "action": {}}
        if served.kept.store is not None:
            happened = await asyncio.to_thread(served.kept.store.happened, _mine(key) | {"policy": policy.name})
        floor = policy is served.floor
        told.append({"hash": policy.hash, "floor": floor, "policy": policy.plain(), "happened": happened})
    thresholds = [t.model_dump(mode="json") for t in limits.thresholds] if limits is not None else []
    return _json({"policies": told, "thresholds": thresholds})


@router.post("/dry-run", **answers(Replayed, 404), **asks(DryRun))
async def dry_run(request: Request) -> Response:
    """What a policy would have done over the tenant's last traces, from their readings alone."""
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    store = _store(state)
    wanted = await read_body(request, DryRun, state.limits.depth)
    policy = await asyncio.to_thread(_policy, state.served, wanted)
    async with state.replaying:  # one at a time: replies come first
        return _json(await asyncio.to_thread(_replayed, state.served, store, policy, _mine(key), wanted.limit))


def _replayed(served: Served, store: Store, policy: Policy, tag: dict[str, str], limit: int) -> dict[str, Any]:
    assert served.calibration is not None
    try:
        guard = guard_of(policy, served.calibration)
    except AffectscopeError as error:
        raise RefusedError(400, str(error), param="yaml", code="policy_not_calibrated") from error
    rows, left_out = [], 0
    for row in store.list(tag=tag, limit=limit):
        try:
            found = store.load(row.id)
            if found.settings.get("vectors") != served.calibration.vectors:
                raise AffectscopeError("read with other vectors")
            made = replay(found, guard)
        except AffectscopeError:  # pruned meanwhile, or of another set of vectors
            left_out += 1
            continue
        rows.append(made.plain() | {"started": row.started, "alarms": row.alarms})
    return {"policy": policy.name, "hash": policy.hash, "left_out": left_out, "traces": rows}


def _policy(served: Served, wanted: DryRun) -> Policy:
    """The policy to try.

    Raises:
        RefusedError: none, an unknown or a malformed one, or no calibration to decide with.
    """
    if served.calibration is None:
        raise RefusedError(400, "there are no thresholds to decide with: start the server with --calibration", code="no_calibration")  # fmt: skip
    if bool(wanted.policy) == bool(wanted.yaml):
        raise RefusedError(400, "give either the name of a served policy, or yaml", param="policy")
    if wanted.policy:
        found = served.policy(wanted.policy)
        assert found is not None
        return found
    # YAML's parser takes the square of how deep brackets stand in each other.
    if max(accumulate((c in "[{") - (c in "]}") for c in wanted.yaml)) > MOST_NESTED:
        raise RefusedError(400, f"the policy nests deeper than {MOST_NESTED}: flatten it", param="yaml")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(wanted.yaml, yaml.SafeLoader)):
            raise RefusedError(400, "the policy uses YAML aliases: write it out", param="yaml")
        return parse(wanted.yaml)
    except (AffectscopeError, yaml.YAMLError, RecursionError) as error:
        raise RefusedError(400, " ".join(str(error).split()), param="yaml", code="policy_malformed") from error


def _watching(served: Served, concept: str) -> list[str]:
    """Names of the served policies' rules that watch a concept."""
    parts = [(name, part) for policy in served.policies.values() for name, part in policy.rules.items()]
    return sorted({name for name, part in parts if part.concepts.get(concept)})


def _mine(key: Key) -> dict[str, str]:
    """The tags of what a key may see."""
    return {} if key.may("admin") else {"tenant": key.tenant}


def _store(state: State) -> Store:
    if state.served.kept.store is None:
        raise RefusedError(404, "no traces are kept here: start the server with --db", code="no_store")
    return state.served.kept.store


def _json(value: object) -> Response:
    return Response(json_text(value), media_type="application/json")
