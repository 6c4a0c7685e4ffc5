// Requests to the station. A request that got no answer, one that was refused, and one that met another reader's
// decision are three kinds of error, since each asks for something else.
let csrf = document.querySelector("meta[name=csrf-token]")?.content ?? "";

/** No answer came, or the server failed (503: its database is down): what was sent may have been recorded or not. */
export class LostError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The server refused: nothing was recorded. */
export class RefusedError extends Error {
  constructor(status, body) {
    super(body.error ?? `HTTP ${status}`);
    this.status = status;
    this.body = body;
  }
}

async function ask(address, options = {}) {
  let response, body;
  try {
    response = await fetch(address, { ...options, headers: { Accept: "application/json", ...options.headers } });
    body = await response.json();
  } catch (error) {
    if (!(response?.status >= 400 && response.status < 500)) throw new LostError(error.message, response?.status);
    body = {}; // refused, by something in between that speaks no JSON
  }
  if (response.status >= 500) throw new LostError(body.error ?? `HTTP ${response.status}`, response.status);
  if (!response.ok) throw new RefusedError(response.status, body);
  return body;
}

export const read = (address) => ask(address);

/** Send something; a token that another session has replaced is fetched anew, once. */
export async function send(address, body) {
  const options = () => ({
    method: "POST",
    priority: "high",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
  });
  try {
    return await ask(address, options());
  } catch (error) {
    if (!(error instanceof RefusedError) || error.status !== 403 || !error.message.includes("CSRF")) throw error;
    csrf = (await read("/api/session")).csrf;
    return ask(address, options());
  }
}

export const addressOf = (patientId) => `/api/patients/${encodeURIComponent(patientId)}`;
export const fieldPath = (fieldId) => fieldId.split("/").map(encodeURIComponent).join("/");
