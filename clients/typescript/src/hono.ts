/** Middleware for Hono. */

import type { Context, MiddlewareHandler } from "hono";

import type { SessiondClient } from "./client.js";
import { decide } from "./guard.js";
import type { GuardOptions } from "./guard.js";
import type { Session } from "./types.js";

/** What a guarded request has in its context. */
export type SessionEnv = { Variables: { session: Session } };

/** How a guard decides. */
export interface HonoGuardOptions extends GuardOptions {
  /** Returns the end user's address, which sessiond keeps as the session's last one. */
  ipAddress?: ((c: Context) => string | undefined) | undefined;
}

/**
 * Lets only requests through that have the token of a live session, and sets it as
 * `c.get("session")`.
 */
export function requireSession(
  client: SessiondClient,
  { ipAddress, ...options }: HonoGuardOptions = {},
): MiddlewareHandler<SessionEnv> {
  return async (c, next) => {
    const header = (name: string) => c.req.header(name);
    const request = { method: c.req.method, header, ipAddress: ipAddress?.(c) };
    const decision = await decide(client, options, request);
    if ("response" in decision) {
      const { status, headers, body } = decision.response;
      return new Response(body, { status, headers });
    }
    c.set("session", decision.session);
    return next();
  };
}
