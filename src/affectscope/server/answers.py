"""Shapes of the answers, as ``/openapi.json`` tells them. OpenAI's are told as far as this server fills them.

They are written down for readers and for tests, which hold every answer against them; no answer is made through them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from affectscope.monitoring.store_rows import Row


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Status(_Shape):
    """Whether it is well."""

    status: str


class Card(_Shape):
    """A model, its policies and the hashes of its parts."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    affect: dict[str, Any]


class Cards(_Shape):
    """The models that are served: one."""

    object: Literal["list"]
    data: list[Card]


class Usage(_Shape):
    """Tokens, those that were written and taken back among them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class Said(_Shape):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = Field(description="Why a tool call was held.")
    tool_calls: list[dict[str, Any]] = []


class ChatChoice(_Shape):
    """One reply."""

    index: int
    message: Said
    logprobs: dict[str, Any] | None
    finish_reason: Finish


class TextChoice(_Shape):
    """One continuation."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Finish


class Told(BaseModel):
    """Our own object beside the choices, where it was asked for: see the guide to the server."""

    v: Literal[1]
    concepts: list[str]
    choices: list[dict[str, Any]]


class _Whole(_Shape):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage
    affect: Told | None = None


class ChatCompletion(_Whole):
    """Replies to a conversation; as server-sent events where a stream was asked for."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(_Whole):
    """What follows a text; as server-sent events where a stream was asked for."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class Foreign(BaseModel):
    """What the engine behind says, as it says it; beside a reply's choices our own object, where it was asked for."""

    model_config = ConfigDict(extra="allow")

    affect: Told | None = None


class ServedPolicy(_Shape):
    """A policy that requests may pick."""

    name: str
    hash: str
    about: str
    floor: bool = Field(description="Whether it is the one of requests that pick none.")
    s_max: float = Field(description="Its largest dose by hand, in mean residual norms.")


class Promise(_Shape):
    """What the thresholds promise: an alarm in a benign conversation with probability `alpha` at most, within `horizon` tokens."""

    alpha: float
    horizon: int
    made: str


class Info(_Shape):
    """What is served, by hashes, and under which promise."""

    model: str
    mode: Literal["engine", "proxy"] = Field(
        description="Whether the model writes, or reads the text of another engine."
    )
    reader: str | None = Field(description="The model that reads another's text; none where it reads itself.")
    grade: Literal["guarded", "watched", "plain"]
    hashes: dict[str, str]
    policies: list[ServedPolicy]
    concepts: list[str]
    layer: int | None
    calibration: Promise | None
    canaries: dict[str, Any]
    slots: int
    s_max: float = Field(description="The largest dose by hand, in mean residual norms.")
    content: bool = Field(description="Whether what was said is kept.")
    traces: bool
    report: bool
    watched: list[str] = Field(description="Concepts that are shown live.")
    rule_concepts: list[str] = Field(description="Concepts that a rule of a served policy watches.")


class Session(_Shape):
    """A named session."""

    name: str
    tenant: str
    policy: str | None
    began: float = Field(description="Seconds since the epoch.")
    running: bool
    stopped: str | None = Field(description="Why it is stopped, until a person resets it.")
    tokens: int


class Sessions(_Shape):
    """Named sessions that are held."""

    object: Literal["list"]
    data: list[Session]


class AskedTool(_Shape):
    """The call that a question is about."""

    name: str
    arguments: dict[str, Any]


class Escalation(_Shape):
    """A question for a person. Times in seconds since the epoch."""

    id: str
    tenant: str
    session: str
    reason: str
    text: str
    tool: AskedTool | None
    asked: float
    deadline: float
    answered: Literal["", "approved", "denied", "expired", "left"]
    by: str


class Escalations(_Shape):
    """Questions that wait, the oldest first."""

    object: Literal["list"]
    data: list[Escalation]


class Traces(_Shape):
    """Traces, the last saved first."""

    object: Literal["list"]
    data: list[Row]


class Moment(_Shape):
    """What happened at a token: `position` is its index among the trace's tokens."""

    position: int
    kind: str
    detail: dict[str, Any]


class OneTrace(_Shape):
    """A trace with its readings: `z` by concept and token, null where one is missing."""

    id: str
    tags: dict[str, str]
    settings: dict[str, Any]
    finished: str
    started: float
    ended: float
    layer: int | None
    unit: Literal["z"]
    tokens: list[str | None] = Field(description="Null where content is not kept.")
    roles: list[str]
    phases: list[str | None]
    generated: list[bool]
    concepts: list[str]
    watch: list[str]
    z: list[list[float | None]]
    events: list[Moment]


class Rulebook(_Shape):
    """A policy whole, and how often what happened under it."""

    hash: str
    floor: bool
    policy: dict[str, Any]
    happened: dict[str, dict[str, int]]


class Policies(_Shape):
    """The served policies, and their thresholds."""

    policies: list[Rulebook]
    thresholds: list[dict[str, Any]]


class Replayed(_Shape):
    """What a policy would have done in past episodes; `left_out` could not be decided again."""

    policy: str
    hash: str
    left_out: int
    traces: list[dict[str, Any]]


class Atlas(_Shape):
    """A map of the concepts at the layer that is read, and what the vectors were made from."""

    map: dict[str, Any]
    layer: int
    layers: list[int]
    model: dict[str, Any]
    corpus: dict[str, Any]
    fingerprint: str


class Concept(_Shape):
    """One concept: nearest and farthest with their cosines, and tokens that its direction pushes up and down."""

    concept: str
    near: list[list[str | float]]
    far: list[list[str | float]]
    up: list[Any]
    down: list[Any]
