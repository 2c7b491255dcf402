"""The model provider ``affectscope``: a model of this machine whose every token is read, as Inspect AI wants one.

``inspect eval TASK --model affectscope/smollm2-135m -M vectors=FILE``. Settings that change what a reply is (the dose, the
policy) are model arguments, so that they stand in the log. Do not use Inspect's ``cache=``: its key does not know them all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from anyio import CapacityLimiter, from_thread, to_thread
from anyio.lowlevel import RunVar
from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from affectscope.engines.base import Sampling
from affectscope.integrations.inspect_conversations import CLOSED, TOO_LONG, Answer, Talk
from affectscope.integrations.inspect_messages import calls_in, messages_of, sampling_of
from affectscope.integrations.inspect_metadata import KEY, sealed
from affectscope.integrations.inspect_setup import arguments_of, setup_of

_STOPS: Mapping[str, StopReason] = {
    "end": "stop", "stop": "stop", "length": "max_tokens", TOO_LONG: "model_length", CLOSED: "content_filter",
}  # fmt: skip


class AffectscopeAPI(ModelAPI):
    """See :class:`~affectscope.integrations.inspect_setup.Arguments` for what it takes as model arguments.

    Raises:
        AffectscopeError: an unknown argument, files that do not belong together or to the model, a steered policy.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.args = arguments_of(model_args)
        self.slots = self.args.places
        self.setup, self.base, self._calibration = setup_of(model_name, self.args)
        self._talks: WeakKeyDictionary[Any, tuple[anyio.Lock, Talk]] = WeakKeyDictionary()
        self._workers: RunVar[CapacityLimiter] = RunVar(f"affectscope-{id(self)}")

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer in a worker thread; the event loop goes on, and a cancelled sample ends its generation.

        Raises:
            AffectscopeError: messages that are no text, settings out of range, a trace that cannot be kept.
        """
        offered = [] if tool_choice == "none" else tools
        messages = messages_of(input, offered, tool_choice)
        sampling = sampling_of(config, self.base, self.args.max_tokens)
        began, log = time.monotonic(), transcript()
        lock, talk = self._talk(log)

        def tell(what: dict[str, Any]) -> None:
            from_thread.run_sync(partial(log.info, _plain(what), source=KEY))

        async with lock:
            work = partial(talk.reply, messages, sampling, tell, {"model": self.model_name})
            answer = await to_thread.run_sync(work, limiter=self._limiter())
        return self._output(answer, sampling, offered, time.monotonic() - began)

    def _output(self, answer: Answer, sampling: Sampling, tools: list[ToolInfo], seconds: float) -> ModelOutput:
        calls = calls_in(answer.text, tools)
        reason = _STOPS.get(answer.finished, "unknown")
        message = ChatMessageAssistant(
            content=answer.text, tool_calls=calls or None, model=self.model_name, source="generate"
        )
        promise = self._calibration.differs(sampling) if self._calibration is not None else ""
        told = sealed(answer.told | ({"promise": promise[:300]} if promise else {}), message)
        message.metadata = {KEY: told}
        choice = ChatCompletionChoice(
            message=message, stop_reason="tool_calls" if calls and reason == "stop" else reason
        )
        return ModelOutput(
            model=self.model_name,
            choices=[choice],
            usage=ModelUsage(
                input_tokens=answer.read, output_tokens=answer.written, total_tokens=answer.read + answer.written
            ),
            time=seconds,
            metadata={KEY: told},
        )

    def _talk(self, log: Any) -> tuple[anyio.Lock, Talk]:
        """The conversation of the sample that ``log`` belongs to. One reply of a sample is written at a time."""
        if log not in self._talks:
            self._talks[log] = (anyio.Lock(), Talk(self.setup))
        return self._talks[log]

    def _limiter(self) -> CapacityLimiter:
        """As many threads as slots; of the event loop that runs now."""
        try:
            return self._workers.get()
        except LookupError:
            made = CapacityLimiter(self.slots)
            self._workers.set(made)
            return made

    async def count_text_tokens(self, text: str) -> int:
        """Tokens of a text by the model's own tokenizer. Inspect's default would download one."""
        return await to_thread.run_sync(self._count, text)

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain text; special tokens in it stay text."""
        return await to_thread.run_sync(self._encode, text)

    def _count(self, text: str) -> int:
        return len(self._encode(text))

    def _encode(self, text: str) -> list[int]:
        with self.setup.loaded.lock:
            return self.setup.loaded.model.encode(text)

    def max_tokens(self) -> int:
        """Of a reply, where Inspect names no number."""
        return self.args.max_tokens

    def max_connections(self) -> int:
        """The engine's slots: that many replies go through the model together. More only wait."""
        return self.slots

    def connection_key(self) -> str:
        """One pool for each device, model and number of slots."""
        model = self.setup.loaded.model
        return f"{model.device}:{model.identity['weights'][:16]}:{self.slots}"

    def canonical_name(self) -> str:
        """The model's own name."""
        return self.setup.loaded.model.name


def _plain(what: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in what.items()}
