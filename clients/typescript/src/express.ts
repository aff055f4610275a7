/** Middleware for Express 4 and 5. */

import type { NextFunction, Request, Response } from "express";

import type { SessiondClient } from "./client.js";
import { decide } from "./guard.js";
import type { GuardOptions } from "./guard.js";
import type { Session } from "./types.js";

export type { GuardOptions } from "./guard.js";

/** What a guarded request has in `res.locals`. */
export interface SessionLocals {
  /** The session of the request. */
  session: Session;
}

/**
 * Lets only requests through that have the token of a live session, and puts it into
 * `res.locals.session`. sessiond gets `req.ip` as the end user's address: behind a proxy, set
 * `trust proxy`.
 */
export function requireSession(client: SessiondClient, options: GuardOptions = {}) {
  // To ask for no more of a request leaves the types of its parameters and body to the application.
  return (
    req: Pick<Request, "method" | "ip" | "get">,
    res: Response<any, SessionLocals>,
    next: NextFunction,
  ): void => {
    const header = (name: string) => req.get(name);
    const request = { method: req.method, header, ipAddress: req.ip };
    // Express 4 does not wait for a promise.
    decide(client, options, request).then((decision) => {
      if ("session" in decision) {
        res.locals.session = decision.session;
        next();
      } else {
        const { status, headers, body } = decision.response;
        res.status(status).set(headers).end(body);
      }
    }, next);
  };
}
