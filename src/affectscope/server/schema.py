"""What a request may hold: OpenAI's fields as its clients send them, and ours under ``affect``.

A field that would change the reply and is not served is refused, never ignored; one that changes nothing is let by.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

VERSION: Literal[1] = 1
"""Of the vendor object ``affect``, in requests and answers."""
MOST_CHOICES, MOST_STOPS, MOST_LIKELIEST, MOST_MESSAGES, MOST_TOOLS = 16, 4, 20, 2048, 128
OTHERS = ("functions", "function_call", "prediction", "audio", "web_search_options", "top_k", "min_p", "repetition_penalty",
          "min_tokens", "ignore_eos", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
          "prompt_logprobs", "use_beam_search", "chat_template", "bad_words")  # fmt: skip
"""Fields that would change the reply and are refused."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Steer(_Strict):
    """A dose by hand: ``s`` of a concept, in mean residual norms; 0 ends the one that a session has."""

    concept: str = Field(max_length=64)
    s: float = Field(ge=-0.5, le=0.5)


class Affect(_Strict):
    """What is asked of the monitor and the guard. Without it an answer is what OpenAI's is, and guarded all the same.

    ``concepts``: whose readings come with the text, token by token. ``policy``: one of those that are served. ``session``:
    turns with the same name are one episode, with one guard. ``steer``: a dose from this reply on, which needs the scope control.
    """

    v: Literal[1] = VERSION
    concepts: tuple[str, ...] = Field(default=(), max_length=64)
    policy: str = Field(default="", max_length=64)
    session: str = Field(default="", max_length=64, pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*)?$")
    steer: Steer | None = None


class Part(_Given):
    """A part of a message's content; text alone can be read here."""

    type: Literal["text"]
    text: str


class Function(_Given):
    """A tool as a request describes it, or as a message called it."""

    name: Name
    description: str = ""
    parameters: dict[str, Any] | None = None
    arguments: str = "{}"

    @field_validator("description", mode="before")
    @classmethod
    def _absent(cls, given: Any) -> Any:
        return "" if given is None else given


class Tool(_Given):
    """A tool that the model may ask for; the client runs it."""

    type: Literal["function"] = "function"
    function: Function


class ToolCall(_Given):
    """A call that the assistant made in an earlier turn."""

    id: str = ""
    type: Literal["function"] = "function"
    function: Function


class ChatMessage(_Given):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[Part, ...] | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("content may be left out beside tool_calls only")
        return self

    @property
    def text(self) -> str:
        """Its text."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


class StreamOptions(_Given):
    """How a stream ends."""

    include_usage: bool = False


class _Sampled(_Given):
    model: str = Field(max_length=512)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    stop: str | tuple[str, ...] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    affect: Affect | None = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, given: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        some = (given,) if isinstance(given, str) else given or ()
        if len(some) > MOST_STOPS or not all(0 < len(text) <= 256 for text in some):
            raise ValueError(f"give at most {MOST_STOPS} texts of 1 to 256 characters")
        return given

    @model_validator(mode="before")
    @classmethod
    def _unknown(cls, given: Any) -> Any:
        """Other servers' fields, and OpenAI's that this one has not, where they would change the reply."""
        if isinstance(given, dict) and (found := [name for name in OTHERS if given.get(name)]):
            raise ValueError(f"{found[0]} is not served: leave it out")
        return given

    @model_validator(mode="after")
    def _unserved(self) -> _Sampled:
        for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
            if getattr(self, name):
                raise ValueError(f"{name} is not served: leave it out")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options go with stream: true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a reply."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(_Sampled):
    """``POST /v1/chat/completions``."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LIKELIEST)
    tools: tuple[Tool, ...] | None = Field(default=None, max_length=MOST_TOOLS)
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _chat(self) -> ChatRequest:
        if self.tool_choice not in (None, "auto", "none"):
            raise ValueError('tool_choice may be "auto" or "none": a call cannot be forced here')
        if self.response_format and self.response_format.get("type") != "text":
            raise ValueError("response_format may be text only: output is not constrained here")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs go with logprobs: true")
        return self

    @property
    def longest(self) -> int | None:
        """Tokens of the reply, at most."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class CompletionRequest(_Sampled):
    """``POST /v1/completions``."""

    prompt: str | tuple[str, ...]
    max_tokens: int | None = Field(default=16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LIKELIEST)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    @model_validator(mode="after")
    def _plain(self) -> CompletionRequest:
        if self.echo or self.suffix or (self.best_of or 1) > (self.n or 1):
            raise ValueError("echo, suffix and best_of are not served: leave them out")
        if not isinstance(self.prompt, str) and not 1 <= len(self.prompt) <= MOST_CHOICES:
            raise ValueError(f"give 1 to {MOST_CHOICES} prompts")
        return self

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts, one or several."""
        return (self.prompt,) if isinstance(self.prompt, str) else self.prompt
