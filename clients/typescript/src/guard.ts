/** Whether a request is let through, for middleware of any framework. */

import type { SessiondClient } from "./client.js";
import { SessiondRefusal, SessiondUnavailable } from "./errors.js";
import type { Session } from "./types.js";

const COOKIE_NAME = "__Host-session";

/** How long a token may be that sessiond is asked about: a request to it has 16 KiB. */
const TOKEN_MAX_BYTES = 16_000;

/** What session tokens and JWTs consist of (RFC 6750). */
const TOKEN = /^[\w.~+/-]+=*$/;

const INVALID_TOKEN = 'Bearer error="invalid_token"';

const PROBLEMS = {
  unauthenticated: { status: 401, title: "Authentication is required" },
  session_ended: { status: 401, title: "The session has ended" },
  cross_site_request: { status: 403, title: "The request is another site's" },
  dependency_unavailable: { status: 503, title: "Sessions cannot be verified at present" },
} as const;

/** How a guard decides. */
export interface GuardOptions {
  /** Where to redirect pages (`GET`, `HEAD`) without a live session, in the place of 401. */
  signInPath?: string | undefined;
  /** The name of the session cookie: `__Host-session`, if absent. */
  cookieName?: string | undefined;
  /** Whose pages may change something by the cookie, such as `https://app.example`. */
  allowedOrigins?: readonly string[] | undefined;
}

/** What a guard needs to know of a request. */
export interface GuardedRequest {
  method: string;
  /** Returns the header of this name, in lower case. */
  header(name: string): string | undefined;
  /** The end user's address. */
  ipAddress: string | undefined;
}

/** A response to a request that is not let through. */
export interface GuardResponse {
  status: number;
  headers: Record<string, string>;
  body: string | null;
}

/** The session of a request that is let through, or the response to one that is not. */
export type Decision = { session: Session } | { response: GuardResponse };

/** Decides whether a request is let through, and asks sessiond each time: nothing is cached. */
export async function decide(
  client: SessiondClient,
  { signInPath, cookieName = COOKIE_NAME, allowedOrigins = [] }: GuardOptions,
  { method, header, ipAddress }: GuardedRequest,
): Promise<Decision> {
  const isRead = method === "GET" || method === "HEAD";
  const withoutSession = (code: "unauthenticated" | "session_ended", challenge: string) =>
    isRead && signInPath !== undefined
      ? { response: { status: 303, headers: { Location: signInPath }, body: null } }
      : problem(code, { "WWW-Authenticate": challenge });

  const authorization = header("authorization");
  const isByCookie = authorization === undefined;
  const token = isByCookie ? cookie(header("cookie"), cookieName) : bearer(authorization);
  if (token === undefined) {
    return withoutSession("unauthenticated", "Bearer");
  }
  // Browsers send the cookie by themselves, with other sites' requests too.
  const origin = header("origin");
  const isSameSite =
    header("sec-fetch-site") === "same-origin" ||
    (origin !== undefined && allowedOrigins.includes(origin));
  if (isByCookie && !isRead && !isSameSite) {
    return problem("cross_site_request");
  }
  if (token.length > TOKEN_MAX_BYTES || !TOKEN.test(token)) {
    return withoutSession("unauthenticated", INVALID_TOKEN);
  }

  let retryAfter: number | null = null;
  try {
    const { status, session } = await client.verifyToken(token, { ip_address: ipAddress });
    switch (status) {
      case "live":
        if (session !== null) {
          return { session };
        }
        break;
      case "invalid":
        return withoutSession("unauthenticated", INVALID_TOKEN);
      case "revoked":
      case "expired":
      case "idle":
        return withoutSession("session_ended", INVALID_TOKEN);
    }
  } catch (error) {
    if (error instanceof SessiondUnavailable) {
      retryAfter = error.retryAfter;
    } else if (!(error instanceof SessiondRefusal)) {
      throw error;
    }
    // A refusal is of the application's own credentials, not of the end user's.
  }
  return problem("dependency_unavailable", { "Retry-After": String(retryAfter ?? 1) });
}

/** Returns the `Set-Cookie` value that removes the session cookie, for a sign-out. */
export function clearCookie(name: string = COOKIE_NAME): string {
  return `${name}=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0`;
}

/** Returns the token of an `Authorization` header, or nothing of one with another scheme. */
function bearer(authorization: string): string {
  return /^bearer (.+)$/i.exec(authorization)?.[1]?.trim() ?? "";
}

/** Returns the value of the cookie of this name. */
function cookie(cookies = "", name: string): string | undefined {
  const pairs = cookies.split(";").map((pair) => pair.split("="));
  const found = pairs.find(([key, ...value]) => key?.trim() === name && value.length > 0);
  return found?.slice(1).join("=").trim();
}

/** Returns the response with a problem document (RFC 9457). */
function problem(
  code: keyof typeof PROBLEMS,
  headers: Record<string, string> = {},
): { response: GuardResponse } {
  const { status, title } = PROBLEMS[code];
  const body = JSON.stringify({ type: `urn:sessiond:problem:${code}`, title, status, code });
  const contentType = { "Content-Type": "application/problem+json" };
  return { response: { status, headers: { ...contentType, ...headers }, body } };
}
