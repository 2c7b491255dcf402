"""LiteLLM: every use in turn, and one line of JSON at the end."""

import json
import sys

import reached

elsewhere = reached.watch()

import litellm  # noqa: E402

given = json.loads(sys.argv[1])
asked = [{"role": "user", "content": given["asked"]}]
litellm.suppress_debug_info = True


def ask(**more):
    return litellm.completion(
        **{"model": "openai/planted", "messages": asked, "max_tokens": 8, "seed": 3, "max_retries": 0, "num_retries": 0,
           "api_base": given["url"], "api_key": given["key"], **more}
    )  # fmt: skip


def refused(**more):
    try:
        for _ in ask(**more):
            pass
    except litellm.exceptions.APIConnectionError:
        raise
    except Exception as error:
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code, "says": error.message}
    return None


def use(usage):
    return {name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


made = {}
whole = ask()
made["whole"] = {"text": whole.choices[0].message.content, "finish": whole.choices[0].finish_reason, "usage": use(whole.usage)}  # fmt: skip
made["plain"] = "affect" not in whole.model_dump()
chunks = list(ask(stream=True, stream_options={"include_usage": True}))
built = litellm.stream_chunk_builder(chunks, messages=asked)
made["streamed"] = {"text": built.choices[0].message.content, "finish": built.choices[0].finish_reason, "usage": use(built.usage)}  # fmt: skip
made["several"] = [choice.message.content for choice in ask(n=3).choices]
stop = made["whole"]["text"][6:9]
made["stop"] = {"given": stop, "text": ask(stop=stop).choices[0].message.content}
measured = ask(logprobs=True, top_logprobs=2).choices[0].logprobs.content
made["logprobs"] = [[one.token, one.logprob, len(one.top_logprobs)] for one in measured]

tools = [{"type": "function", "function": given["tool"]}]
called = ask(tools=tools).choices[0]
(call,) = called.message.tool_calls
made["call"] = {"name": call.function.name, "arguments": json.loads(call.function.arguments), "finish": called.finish_reason}  # fmt: skip
back = [*asked, called.message, {"role": "tool", "tool_call_id": call.id, "content": "w5"}]
made["answered"] = ask(messages=back, tools=tools).choices[0].message.content
built = litellm.stream_chunk_builder(list(ask(tools=tools, stream=True)), messages=asked)
made["call_streamed"] = [[one.function.name, json.loads(one.function.arguments)] for one in built.choices[0].message.tool_calls]  # fmt: skip

affect = {"affect": {"concepts": ["calm"]}}
made["affect"] = ask(extra_body=affect).model_dump().get("affect")
made["affect_streamed"] = [c.model_dump()["affect"] for c in ask(extra_body=affect, stream=True) if "affect" in c.model_dump()]  # fmt: skip
made["errors"] = {
    "key": refused(api_key="as-wrong"),
    "model": refused(model="openai/gpt-4"),
    "stream": refused(model="openai/gpt-4", stream=True),
    "field": refused(max_tokens=9999),
}
made["reached"] = elsewhere
print(json.dumps(made))
