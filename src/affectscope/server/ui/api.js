// The server: requests with the token that changes must carry, and streams that come back after a break.

export const me = { key: "", tenant: "", scopes: [], csrf: "" };
export const may = (scope) => me.scopes.includes(scope) || me.scopes.includes("admin");

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function request(path, given = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...given, headers: { "X-CSRF-Token": me.csrf, ...given.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (answer.status === 401) location.assign("/ui/login");
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new ApiError(answer.status, told?.error?.message || `The server answered ${answer.status}.`);
  }
  return answer;
}

export const get = async (path, signal) => (await request(path, { signal })).json();
export const post = async (path, value) => (await request(path, { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } })).json();

// Server-sent events with cookies. `heard(value)` gets each message; `state(true|false)` says whether the line stands.
// The browser comes back by itself after a break; the server then tells everything anew, and `again` clears what is shown.
// `rests`: a page that nobody sees lets its line go, for a browser has six of them for each server.
export function listen(path, heard, { state = () => {}, again = () => {}, lost = () => {}, rests = false } = {}) {
  let source = null, opened = false;
  const open = () => {
    source = new EventSource(path);
    source.onopen = () => {
      if (opened) again();
      opened = true;
      state(true);
    };
    source.onmessage = (event) => heard(JSON.parse(event.data));
    source.onerror = () => {
      state(false);
      if (source.readyState === EventSource.CLOSED) lost();
    };
  };
  const seen = () => {
    if (document.hidden) source.close();
    else if (source.readyState === EventSource.CLOSED) open();
  };
  open();
  if (rests) document.addEventListener("visibilitychange", seen);
  return () => {
    document.removeEventListener("visibilitychange", seen);
    source.close();
  };
}

// A streamed answer of ours: `heard(chunk)` for each; resolves at its end.
export async function stream(path, value, heard, signal) {
  const answer = await request(path, { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value: text, done } = await reader.read();
    if (done) return;
    const parts = (rest + text).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ") || part === "data: [DONE]") continue;
      const chunk = JSON.parse(part.slice(6));
      if (chunk.error) throw new ApiError(500, chunk.error.message);
      heard(chunk);
    }
  }
}
