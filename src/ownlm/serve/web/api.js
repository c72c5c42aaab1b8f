// The server's API, and what goes wrong with it, in words.

/** Something that went wrong: `message` says what, `retry` whether trying again may help, `signIn` that a key is needed. */
export class Problem extends Error {
  constructor(message, { retry = true, signIn = false, wait = 0 } = {}) {
    super(message);
    Object.assign(this, { retry, signIn, wait });
  }
}

const UNREACHABLE = "The server cannot be reached. Is it running, and is this device connected to it?";
const BROKEN = "The connection broke off before the answer was complete.";

/** The models that are served. */
export async function models() {
  return (await json(await request("/v1/models"))).data;
}

/** Keeps what somebody thinks of an answer. */
export async function sendFeedback(feedback) {
  return json(await request("/v1/feedback", feedback));
}

/**
 * Asks for an answer and yields its pieces as they come.
 * @param {object} body a request of /v1/chat/completions
 * @param {AbortSignal} signal ends it, on the server as well
 * @yields {{id?: string, text?: string, finish?: string, usage?: object}}
 */
export async function* answer(body, signal) {
  const response = await request("/v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  let ended = false;
  for await (const data of events(response, signal)) {
    if (data === "[DONE]") {
      ended = true;
      continue;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Problem(sentence(chunk.error.message));
    const choice = chunk.choices?.[0];
    yield { id: chunk.id, text: choice?.delta?.content ?? "", finish: choice?.finish_reason ?? null, usage: chunk.usage ?? null };
  }
  if (!ended) throw new Problem(BROKEN);
}

async function request(path, body, signal) {
  const options = { signal, headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(UNREACHABLE);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function json(response) {
  try {
    return await response.json();
  } catch {
    throw new Problem(BROKEN);
  }
}

async function refusal(response) {
  let said = "";
  try {
    said = (await response.json()).error.message;
  } catch {
    // Not in the server's own words: something stands between it and this page.
  }
  const wait = Number(response.headers.get("Retry-After")) || 0;
  const later = wait ? ` It may be tried again in ${wait} second${wait === 1 ? "" : "s"}.` : "";
  if (response.status === 401) return new Problem("Your key is no longer good here.", { retry: false, signIn: true });
  if (response.status === 403) return new Problem(sentence(said) || "Your key does not allow this.", { retry: false });
  if (response.status === 413) return new Problem("This conversation is larger than the server takes. Begin a new one.", { retry: false });
  if (response.status === 429) return new Problem((sentence(said) || "The server has too much to do.") + later, { wait });
  if (response.status === 503) return new Problem((sentence(said) || "The server is not ready.") + later, { wait });
  if (response.status < 500) return new Problem(sentence(said) || `The server refused the request (${response.status}).`);
  return new Problem(sentence(said) || `The server failed at this request (${response.status}).`);
}

/** The data of server-sent events (WHATWG HTML, 9.2). */
async function* events(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(5).replace(/^ /, ""));
        }
      }
    }
  } catch (error) {
    if (signal?.aborted || error instanceof Problem) throw error;
    throw new Problem(BROKEN);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What the server said, as a sentence. */
function sentence(said) {
  if (!said) return "";
  const text = said[0].toUpperCase() + said.slice(1);
  return /[.!?)]$/.test(text) ? text : `${text}.`;
}
