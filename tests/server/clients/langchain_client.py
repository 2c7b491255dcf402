"""LangChain's ``ChatOpenAI``: every use in turn, and one line of JSON at the end."""

import json
import sys

import reached

elsewhere = reached.watch()

import openai  # noqa: E402
from langchain_core.messages import HumanMessage, ToolMessage  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402

given = json.loads(sys.argv[1])
asked = [HumanMessage(given["asked"])]


class Affected(ChatOpenAI):
    """It drops what OpenAI's answers do not hold: these few lines keep our object."""

    def _create_chat_result(self, response, generation_info=None):
        made = super()._create_chat_result(response, generation_info)
        made.generations[0].message.response_metadata["affect"] = response.model_extra.get("affect")
        return made

    def _convert_chunk_to_generation_chunk(self, chunk, *rest):
        made = super()._convert_chunk_to_generation_chunk(chunk, *rest)
        if made is not None and "affect" in chunk:
            made.message.response_metadata["affect"] = [chunk["affect"]]
        return made


def chat(kind=ChatOpenAI, **more):
    settings = {"model": "planted", "api_key": given["key"], "max_tokens": 8, "seed": 3, "max_retries": 0, **more}
    return kind(base_url=given["url"], **settings)


def refused(model):
    try:
        model.invoke(asked)
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code, "says": error.message}
    return None


def use(metadata):
    return {name: metadata[name] for name in ("input_tokens", "output_tokens", "total_tokens")}


made = {}
whole = chat().invoke(asked)
made["whole"] = {"text": whole.content, "finish": whole.response_metadata["finish_reason"], "usage": use(whole.usage_metadata)}  # fmt: skip
total = None
for chunk in chat(stream_usage=True).stream(asked):
    total = chunk if total is None else total + chunk
made["streamed"] = {"text": total.content, "finish": total.response_metadata["finish_reason"], "usage": use(total.usage_metadata)}  # fmt: skip
made["several"] = [one.text for one in chat(n=3).generate([asked]).generations[0]]
stop = whole.content[6:9]
made["stop"] = {"given": stop, "text": chat().invoke(asked, stop=[stop]).content}
measured = chat(logprobs=True, top_logprobs=2).invoke(asked).response_metadata["logprobs"]["content"]
made["logprobs"] = [[one["token"], one["logprob"], len(one["top_logprobs"])] for one in measured]

bound = chat().bind_tools([{"type": "function", "function": given["tool"]}])
called = bound.invoke(asked)
(call,) = called.tool_calls
made["call"] = {"name": call["name"], "arguments": call["args"], "finish": called.response_metadata["finish_reason"]}
made["answered"] = bound.invoke([*asked, called, ToolMessage("w5", tool_call_id=call["id"])]).content
total = None
for chunk in bound.stream(asked):
    total = chunk if total is None else total + chunk
made["call_streamed"] = [[call["name"], call["args"]] for call in total.tool_calls]

affect = {"affect": {"concepts": ["calm"]}}
made["plain"] = "affect" not in chat(extra_body=affect).invoke(asked).response_metadata
made["affect"] = chat(Affected, extra_body=affect).invoke(asked).response_metadata["affect"]
made["affect_streamed"] = []
for chunk in chat(Affected, extra_body=affect).stream(asked):
    made["affect_streamed"] += chunk.response_metadata.get("affect", [])
made["errors"] = {
    "key": refused(chat(api_key="as-wrong")),
    "model": refused(chat(model="gpt-4")),
    "stream": refused(chat(model="gpt-4", streaming=True)),
    "field": refused(chat(max_tokens=9999)),
}
made["reached"] = elsewhere
print(json.dumps(made))
