/** One call to a node: its attempts, their time-outs, and what comes back. */

import { setTimeout as sleep } from "node:timers/promises";

import { SessiondRefusal, SessiondUnavailable } from "./errors.js";
import type { Problem } from "./types.js";

/** The wait before the second attempt, where the response names none; it doubles from then on. */
const FIRST_WAIT_MS = 50;

/** The statuses after which a call is attempted again. */
const RETRIED = [429, 502, 503, 504];

/** How large a response may be. */
const RESPONSE_MAX_BYTES = 1024 * 1024;

/** The longest time that a timer can wait. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Where a node is, how long calls take at most, and how often they are attempted. */
export interface ClientOptions {
  /** The URL of the service listener, such as `http://127.0.0.1:8081`. */
  url: string;
  /** A service key of the node. */
  serviceKey: string;
  /** How long one attempt may take, in milliseconds: 2000, if absent. */
  attemptTimeoutMs?: number | undefined;
  /** How long a call may take with all its attempts, in milliseconds: 5000, if absent. */
  timeoutMs?: number | undefined;
  /** How often a call is attempted again, at most: twice, if absent. */
  retries?: number | undefined;
}

/** One call: every attempt sends the same request. */
export interface Call {
  method: "GET" | "POST" | "PATCH" | "DELETE";
  /** The path below `/service/v1/`, with the query. */
  path: string;
  headers?: Record<string, string>;
  body?: object;
  /** Whether to leave it at one attempt. */
  once?: boolean;
}

/** A response that reports success. */
export interface Reply {
  status: number;
  headers: Headers;
  text: string;
}

/** Sends calls to a node. */
export class Transport {
  readonly #url: string;
  readonly #authorization: string;
  readonly #attemptTimeoutMs: number;
  readonly #timeoutMs: number;
  readonly #retries: number;

  constructor(options: ClientOptions) {
    const { attemptTimeoutMs = 2000, timeoutMs = 5000, retries = 2 } = options;
    const isTime = (ms: number) => ms > 0 && ms <= TIMER_MAX_MS;
    if (!isTime(attemptTimeoutMs) || !isTime(timeoutMs) || !(retries >= 0)) {
      throw new RangeError(`time-outs must be 1 to ${TIMER_MAX_MS} ms, and retries 0 or more`);
    }
    if (typeof options.serviceKey !== "string" || !/^[\x21-\x7e]+$/.test(options.serviceKey)) {
      throw new TypeError("the service key must be visible ASCII characters");
    }
    this.#url = `${baseUrl(options.url)}/service/v1/`;
    this.#authorization = `Bearer ${options.serviceKey}`;
    this.#attemptTimeoutMs = attemptTimeoutMs;
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
  }

  /** Attempts a call until there is a reply, or neither an attempt nor time is left. */
  async send({ method, path, headers, body, once }: Call): Promise<Reply> {
    const deadline = performance.now() + this.#timeoutMs;
    const request: RequestInit = {
      method,
      headers: {
        ...headers,
        ...(body && { "Content-Type": "application/json" }),
        Authorization: this.#authorization,
      },
      body: body ? JSON.stringify(body) : null,
      // The service key would go elsewhere.
      redirect: "manual",
    };
    let retries = once ? 0 : this.#retries;
    for (let wait = FIRST_WAIT_MS; ; wait *= 2) {
      const timeLeft = deadline - performance.now();
      const outcome = await attempt(
        this.#url + path,
        request,
        Math.min(this.#attemptTimeoutMs, timeLeft),
      );
      if (!(outcome instanceof SessiondUnavailable)) {
        return outcome;
      }
      const { retryAfter } = outcome;
      const waitNow = retryAfter === null ? wait * (1 + Math.random() / 2) : retryAfter * 1000;
      if (retries <= 0 || performance.now() + waitNow >= deadline) {
        throw outcome;
      }
      await sleep(waitNow);
      retries -= 1;
    }
  }
}

/** Returns the body of a reply, which has these fields. */
export function bodyOf<T>(reply: Reply, ...fields: (keyof T)[]): T {
  const body = parsed(reply.text);
  if (body === undefined || !fields.every((field) => field in body)) {
    throw new SessiondUnavailable(`the response is not sessiond's: status ${reply.status}`);
  }
  return body as T;
}

/** Returns what sessiond would say of a request that cannot even be sent. */
export function invalidRequest(field: string, message: string): SessiondRefusal {
  return new SessiondRefusal({
    status: 400,
    code: "invalid_request",
    title: "The request is malformed",
    errors: [{ field, message }],
  });
}

/** Returns the URL of a node without a slash at its end. */
function baseUrl(text: string): string {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // The error has the text, which is the service key if the two were confused.
  }
  const isPlain = !url?.username && !url?.password && !url?.search && !url?.hash;
  if (!url || !/^https?:$/.test(url.protocol) || !isPlain) {
    throw new TypeError(
      "the URL must be http://host[:port] or https://host[:port], and may have a path",
    );
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

/** Returns the reply, or an error after which another attempt may succeed. Throws what is final. */
async function attempt(
  url: string,
  request: RequestInit,
  timeoutMs: number,
): Promise<Reply | SessiondUnavailable> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), timeoutMs);
  let reply: Reply;
  try {
    const response = await fetch(url, { ...request, signal: controller.signal });
    const { status, headers } = response;
    reply = { status, headers, text: await readText(response) };
  } catch (error) {
    return new SessiondUnavailable(
      controller.signal.aborted ? "no response in time" : `no response: ${reasonOf(error)}`,
    );
  } finally {
    clearTimeout(timer);
  }
  return meaning(reply);
}

/** Reads a body, or as much of it as is allowed: that is no JSON any more. */
async function readText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > RESPONSE_MAX_BYTES) {
      break;
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** Returns the last cause of an error: those before it say nothing, or name the request. */
function reasonOf(error: unknown): string {
  let cause = error as NodeJS.ErrnoException;
  while (cause.cause instanceof Error) {
    cause = cause.cause;
  }
  return cause.message || (cause.code ?? cause.name);
}

/** Returns a reply that reports success, or what `attempt` returns of another. */
function meaning(reply: Reply): Reply | SessiondUnavailable {
  const { status } = reply;
  if (status >= 200 && status < 300) {
    return reply;
  }
  const problem = problemOf(reply);
  if (problem && status >= 400 && status < 500 && status !== 408 && status !== 429) {
    throw new SessiondRefusal(problem);
  }
  const reason = problem
    ? `${status} ${problem.code}: ${problem.title}`
    : `status ${status}, which is not sessiond's`;
  const unavailable = new SessiondUnavailable(reason, retryAfterOf(reply));
  if (RETRIED.includes(status)) {
    return unavailable;
  }
  throw unavailable;
}

/** Returns the problem in a reply, if it is sessiond's. */
function problemOf({ status, text }: Reply): Problem | undefined {
  const problem = parsed(text) as Partial<Problem> | undefined;
  const isProblem =
    problem?.status === status &&
    problem.type === `urn:sessiond:problem:${problem.code}` &&
    typeof problem.title === "string";
  return isProblem ? (problem as Problem) : undefined;
}

/** Returns how many seconds a reply asks to wait, if it does. */
function retryAfterOf({ headers }: Reply): number | null {
  const value = headers.get("retry-after");
  return value && /^\d+$/.test(value) ? Math.min(Number(value), Number.MAX_SAFE_INTEGER) : null;
}

/** Returns the object that a text is in JSON, if it is one. */
function parsed(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    // The error has a part of the text, which may be a secret.
    return undefined;
  }
}
