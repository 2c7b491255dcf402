// The official client for Node: every use in turn, and one line of JSON at the end.
import OpenAI from "openai";

const { url, key, asked, tool } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: asked }];
const base = { model: "planted", messages, max_tokens: 8, seed: 3 };
const made = {};

async function refused(work) {
  try {
    await work();
    return null;
  } catch (error) {
    return { class: error.constructor.name, status: error.status, code: error.code, says: error.message };
  }
}

const whole = await client.chat.completions.create(base);
made.whole = { text: whole.choices[0].message.content, finish: whole.choices[0].finish_reason, usage: whole.usage };
made.plain = !("affect" in whole);

made.streamed = { text: "" };
const options = { include_usage: true };
for await (const chunk of await client.chat.completions.create({ ...base, stream: true, stream_options: options })) {
  made.streamed.text += chunk.choices[0]?.delta?.content ?? "";
  made.streamed.finish = chunk.choices[0]?.finish_reason ?? made.streamed.finish;
  made.streamed.usage = chunk.usage ?? made.streamed.usage;
}

const several = await client.chat.completions.create({ ...base, n: 3 });
made.several = several.choices.map((choice) => choice.message.content);
const stop = made.whole.text.slice(6, 9);
made.stop = { given: stop };
made.stop.text = (await client.chat.completions.create({ ...base, stop })).choices[0].message.content;

const measured = (await client.chat.completions.create({ ...base, logprobs: true, top_logprobs: 2 })).choices[0];
made.logprobs = measured.logprobs.content.map((one) => [one.token, one.logprob, one.top_logprobs.length]);

const tools = [{ type: "function", function: tool }];
const called = (await client.chat.completions.create({ ...base, tools })).choices[0];
const call = called.message.tool_calls[0];
made.call = { name: call.function.name, arguments: JSON.parse(call.function.arguments), finish: called.finish_reason };
const back = [...messages, called.message, { role: "tool", tool_call_id: call.id, content: "w5" }];
made.answered = (await client.chat.completions.create({ ...base, messages: back, tools })).choices[0].message.content;

// The client's own loop: it streams, puts the pieces of a call together, runs it and sends its answer.
const runner = client.chat.completions.runTools({
  ...base,
  stream: true,
  tools: [{ type: "function", function: { ...tool, parse: JSON.parse, function: async (given) => `w${given.a}` } }],
});
made.loop = await runner.finalContent();
made.loop_calls = runner.messages.filter((one) => one.role === "tool").map((one) => one.content);

// A field that it does not know is sent as it stands, and one that comes back is there to read.
const affect = { concepts: ["calm"] };
made.affect = (await client.chat.completions.create({ ...base, affect })).affect;
made.affect_streamed = [];
for await (const chunk of await client.chat.completions.create({ ...base, affect, stream: true })) {
  if (chunk.affect) made.affect_streamed.push(chunk.affect);
}

const stranger = client.withOptions({ apiKey: "as-wrong" });
made.errors = {
  key: await refused(() => stranger.chat.completions.create(base)),
  model: await refused(() => client.chat.completions.create({ ...base, model: "gpt-4" })),
  stream: await refused(() => client.chat.completions.create({ ...base, model: "gpt-4", stream: true })),
  field: await refused(() => client.chat.completions.create({ ...base, max_tokens: 9999 })),
};
made.models = (await client.models.list()).data.map((one) => one.id);
console.log(JSON.stringify(made));
