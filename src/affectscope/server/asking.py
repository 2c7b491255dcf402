"""From a request to what the engine is asked: messages, how to sample, and the tools told to the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.guarding.tools import TOLD
from affectscope.models.chat import tokenize
from affectscope.server.bodies import strict, writable
from affectscope.server.errors import RefusedError
from affectscope.server.schema import Affect, ChatMessage, ChatRequest, CompletionRequest, Tool
from affectscope.server.served import Served


@dataclass(frozen=True)
class Asked:
    """One reply that is wanted."""

    messages: tuple[Message, ...] | str
    sampling: Sampling
    prompt: int  # tokens
    logprobs: int | None
    tools: frozenset[str]
    affect: Affect | None


def of_chat(served: Served, request: ChatRequest, longest: int) -> list[Asked]:
    """``n`` replies to a conversation.

    Args:
        longest: tokens of a reply where the request does not say, and the most that it may ask for.

    Raises:
        RefusedError: a prompt that leaves no room, an unknown tool in the history, tokens beyond the server's limit.
    """
    require_model(served, request.model)
    tools = () if request.tool_choice == "none" else request.tools or ()
    messages = _with_tools([_message(m) for m in request.messages], tools)
    prompt = _count(served, messages)
    sampling = _sampling(served, request, request.longest, prompt, longest)
    names = frozenset(tool.function.name for tool in tools)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return [Asked(messages, s, prompt, logprobs, names, request.affect) for s in _each(sampling, request.n or 1)]


def of_completion(served: Served, request: CompletionRequest, longest: int) -> list[Asked]:
    """``n`` continuations of each prompt.

    Raises:
        RefusedError: as :func:`of_chat`.
    """
    require_model(served, request.model)
    found = []
    for text in request.prompts:
        if not text.strip():
            raise RefusedError(400, "the prompt is empty: give at least one word", param="prompt")
        prompt = len(served.model.encode(text))
        sampling = _sampling(served, request, request.max_tokens, prompt, longest)
        found += [Asked(text, s, prompt, request.logprobs, frozenset(), request.affect) for s in _each(sampling, request.n or 1)]  # fmt: skip
    return found


def require_model(served: Served, name: str) -> None:
    """Refuse another model than the one that is served.

    Raises:
        RefusedError: 404.
    """
    if name != served.name:
        raise RefusedError(404, f"the model {name!r} is not served here: use {served.name!r}", param="model", code="model_not_found")  # fmt: skip


def _message(given: ChatMessage) -> Message:
    role = "system" if given.role == "developer" else given.role
    text = given.text
    for call in given.tool_calls or ():
        try:
            arguments = strict(call.function.arguments or "{}")
            if not writable(arguments):
                raise ValueError("half a character")
        except (ValueError, RecursionError) as error:
            raise RefusedError(400, f"the arguments of the call of {call.function.name!r} are no JSON", param="messages") from error  # fmt: skip
        said = json.dumps({"name": call.function.name, "arguments": arguments}, ensure_ascii=False)
        text = f"{text}\n{said}" if text else said
    return Message(role, text)


def _with_tools(messages: list[Message], tools: Sequence[Tool]) -> tuple[Message, ...]:
    """What the model is told of its tools, behind the system's words; in ours, for many templates know none."""
    if not tools:
        return tuple(messages)
    lines = [TOLD]
    for tool in tools:
        schema = json.dumps(tool.function.parameters or {}, ensure_ascii=False)
        lines.append(f"- {tool.function.name}: {tool.function.description} Arguments: {schema}")
    told = "\n".join(lines)
    if messages[0].role == "system":
        return (Message("system", f"{messages[0].content}\n\n{told}"), *messages[1:])
    return (Message("system", told), *messages)


def _count(served: Served, messages: tuple[Message, ...]) -> int:
    from affectscope.errors import AffectscopeError

    try:
        return len(tokenize(served.model, messages, reply=True).ids)
    except AffectscopeError as error:
        raise RefusedError(400, str(error), param="messages") from error


def _sampling(
    served: Served, request: ChatRequest | CompletionRequest, wanted: int | None, prompt: int, longest: int
) -> Sampling:
    """How tokens are drawn: the request's word, else the server's."""
    room = served.model.longest - prompt
    if room < 1:
        raise RefusedError(
            400,
            f"the prompt has {prompt} tokens and the model takes {served.model.longest}: shorten it",
            param="messages",
            code="context_length_exceeded",
        )
    if wanted is not None and wanted > min(room, longest):
        most = min(room, longest)
        code = "context_length_exceeded" if most == room else "max_tokens_exceeded"
        raise RefusedError(400, f"{wanted} tokens are too many beside a prompt of {prompt}: ask for at most {most}", param="max_tokens", code=code)  # fmt: skip
    base = served.sampling
    return Sampling(
        temperature=base.temperature if request.temperature is None else request.temperature,
        top_p=base.top_p if request.top_p is None else request.top_p,
        top_k=base.top_k,
        repetition_penalty=base.repetition_penalty,
        seed=None if request.seed is None else request.seed % 2**63,
        stop=request.stops,
        max_tokens=wanted if wanted is not None else min(room, longest),
    )


def _each(sampling: Sampling, count: int) -> list[Sampling]:
    """The choices' own: a seed given for the first is counted on for the others."""
    from dataclasses import replace

    if sampling.seed is None:
        return [sampling] * count
    return [replace(sampling, seed=(sampling.seed + i) % 2**63) for i in range(count)]
