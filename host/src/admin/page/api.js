// Asks the host. Addresses are relative, so that the page also works behind a proxy that gives it a path of its own.

const TOKEN = "tidegate-token";
const PATIENCE = 15_000;

/** The host has refused something: `message` is the cause, `remedy` what to do. */
export class Refused extends Error {
  constructor(status, error, remedy) {
    super(error);
    this.status = status;
    this.remedy = remedy;
  }
}

/** The host does not answer. */
export class Away extends Error {}

/** Shows this token from now on, as long as the tab is open. */
export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/** What the host answers to a question, as JSON. */
export function ask(path) {
  return send(path, { signal: AbortSignal.timeout(PATIENCE) });
}

/** What it answers to a question that may take as long as the host allows. */
export function askPatiently(path) {
  return send(path, {});
}

/** Has the host do something; `module` is a file to send with it. */
export function tell(path, module) {
  const type = module ? "application/octet-stream" : "application/json";
  return send(path, { method: "POST", headers: { "Content-Type": type }, body: module });
}

async function send(path, request) {
  const headers = new Headers(request.headers);
  if (hasToken()) {
    headers.set("Authorization", `Bearer ${sessionStorage.getItem(TOKEN)}`);
  }
  let response;
  let text;
  try {
    response = await fetch(path, { ...request, headers, cache: "no-store", credentials: "omit", redirect: "error" });
    text = await response.text();
  } catch {
    throw new Away("the host does not answer");
  }
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Refused(response.status, "the answer is not JSON", "look whether it is tidegate that listens there");
  }
  if (!response.ok) {
    throw new Refused(response.status, answer.error ?? `status ${response.status}`, answer.remedy ?? "");
  }
  return answer;
}
