/** Why a call has failed. Neither the service key nor a token is in an error. */

import type { FieldError, Problem } from "./types.js";

/** A problem document of a refused request. */
export interface Refused {
  /** The status of the response: 400 to 499. */
  readonly status: number;
  /** The kind of problem, such as `session_not_found`. */
  readonly code: Problem["code"];
  /** A sentence for people. */
  readonly title: string;
  /** Which fields of the request are wrong, and why. */
  readonly errors: readonly FieldError[];
}

/** sessiond has understood the request, and does not do it. */
export class SessiondRefusal extends Error {
  override readonly name = "SessiondRefusal";
  /** What sessiond says of the request (RFC 9457). */
  readonly problem: Refused;

  /**
   * Creates the error of this problem. The error itself has no `status`: Express would respond with
   * it, and sessiond's 401 or 403 is the application's, not the end user's.
   */
  constructor({ status, code, title, errors = [] }: Omit<Problem, "type">) {
    super(`sessiond refused the request: ${status} ${code}: ${title}`);
    this.problem = { status, code, title, errors };
  }
}

/**
 * Nothing is known: it is not the same as "no session". After a call that changes something, the
 * change may or may not have been made; repeating it is safe.
 */
export class SessiondUnavailable extends Error {
  override readonly name = "SessiondUnavailable";
  /** After how many seconds to try again, or null where the response does not say so. */
  readonly retryAfter: number | null;

  /** Creates the error of this reason. */
  constructor(reason: string, retryAfter: number | null = null) {
    super(`sessiond is unavailable: ${reason}`);
    this.retryAfter = retryAfter;
  }
}
