/** The calls of an application's backend. */

import { randomUUID } from "node:crypto";

import { SessiondUnavailable } from "./errors.js";
import { bodyOf, invalidRequest, Transport } from "./transport.js";
import type { ClientOptions, Reply } from "./transport.js";
import type {
  CreatedSession,
  CreateSession,
  EditSession,
  EndUser,
  EventPage,
  InspectedSession,
  ListEvents,
  ListSessions,
  Reason,
  RevokeAllUserSessions,
  Revoked,
  RotatedToken,
  Session,
  SessionList,
  Verification,
  WholeSession,
} from "./types.js";

/**
 * Calls sessiond as the application's backend, with a service key.
 *
 * A call that fails throws `SessiondRefusal`, or `SessiondUnavailable`: nothing is known. Every
 * call can be repeated safely, and is, as the options say.
 */
export class SessiondClient {
  readonly #transport: Transport;

  /**
   * Creates a client of the service listener at a URL.
   *
   * @throws TypeError if the URL or the key cannot be one, RangeError if a number cannot.
   */
  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
  }

  /**
   * Creates a session: a sign-in.
   *
   * Refused with `session_limit_reached` if the limit denies it, or with `unprocessable_content` if
   * the idempotency key is that of another sign-in.
   */
  async createSession(signIn: CreateSession): Promise<CreatedSession> {
    const { idempotency_key = randomUUID(), ...body } = signIn;
    const reply = await this.#transport.send({
      method: "POST",
      path: "sessions",
      headers: header("Idempotency-Key", idempotency_key),
      body,
    });
    const created = bodyOf<CreatedSession>(reply, "id", "user_id", "status", "evicted");
    return hidden(created, "token", "set_cookie");
  }

  /**
   * Returns a session as this user: at first hand from the near cache.
   *
   * Refused with `session_not_found`, or with `not_session_owner` if it is another user's.
   */
  async getSession(sessionId: string, { user_id }: { user_id: string }): Promise<Session> {
    // Without a user's id, the node would return anyone's session.
    const query = new URLSearchParams({ user_id });
    const path = `sessions/${segment("id", sessionId)}?${query}`;
    const reply = await this.#transport.send({ method: "GET", path });
    return bodyOf<Session>(reply, "id", "user_id", "status");
  }

  /**
   * Returns any session with its user agent and metadata, from the database.
   *
   * Refused with `session_not_found`.
   */
  async inspectSession(sessionId: string): Promise<InspectedSession> {
    const path = `sessions/${segment("id", sessionId)}`;
    return inspected(await this.#transport.send({ method: "GET", path }));
  }

  /**
   * Returns what a session token or JWT is worth that an end user has presented. With a live
   * session, this counts as its activity. A token that is not good is no error: see `status`.
   */
  async verifyToken(token: string, { ip_address }: EndUser = {}): Promise<Verification> {
    const body = { token, ip_address };
    const path = "sessions/verify";
    const reply = await this.#transport.send({ method: "POST", path, body });
    return bodyOf<Verification>(reply, "status", "session");
  }

  /**
   * Changes name and metadata of a session. With `if_match` it is attempted once: what the first
   * attempt has changed would look like another one's change.
   *
   * Refused with `session_not_found`, or with `precondition_failed`.
   */
  async editSession(sessionId: string, edit: EditSession): Promise<InspectedSession> {
    const { if_match, ...body } = edit;
    const reply = await this.#transport.send({
      method: "PATCH",
      path: `sessions/${segment("id", sessionId)}`,
      body,
      ...(if_match !== undefined && { headers: header("If-Match", if_match), once: true }),
    });
    return inspected(reply);
  }

  /**
   * Records that the session was used, from this address.
   *
   * Refused with `session_ended` if it is not live, or with `session_not_found`.
   */
  async recordActivity(sessionId: string, { ip_address }: EndUser = {}): Promise<void> {
    const path = `sessions/${segment("id", sessionId)}/activity`;
    done(await this.#transport.send({ method: "POST", path, body: { ip_address } }));
  }

  /**
   * Replaces the session token of a session, or issues its first. The one before is good for a
   * short time yet.
   *
   * Refused with `session_ended` if the session is not live, or with `session_not_found`.
   */
  async rotateToken(sessionId: string): Promise<RotatedToken> {
    const path = `sessions/${segment("id", sessionId)}/rotate`;
    const reply = await this.#transport.send({ method: "POST", path });
    return hidden(bodyOf<RotatedToken>(reply, "token", "set_cookie"), "token", "set_cookie");
  }

  /** Returns a page of a user's sessions. */
  async listUserSessions(userId: string, list: ListSessions = {}): Promise<SessionList> {
    const path = `users/${segment("user_id", userId)}/sessions${query(list)}`;
    const reply = await this.#transport.send({ method: "GET", path });
    return bodyOf<SessionList>(reply, "sessions", "total_count", "active_count", "next_cursor");
  }

  /**
   * Revokes a session. Returns once no node serves it as live.
   *
   * Refused with `session_not_found`. A session that was revoked before is no error.
   */
  async revokeSession(sessionId: string, { reason }: Reason = {}): Promise<void> {
    const path = `sessions/${segment("id", sessionId)}`;
    done(await this.#transport.send({ method: "DELETE", path, body: { reason } }));
  }

  /**
   * Revokes all sessions of a user, but for `except_session_id`. Returns once no node serves them
   * as live.
   */
  async revokeAllUserSessions(
    userId: string,
    { reason, except_session_id }: RevokeAllUserSessions = {},
  ): Promise<Revoked> {
    const path = `users/${segment("user_id", userId)}/sessions`;
    const body = { reason, except_session_id };
    const reply = await this.#transport.send({ method: "DELETE", path, body });
    return bodyOf<Revoked>(reply, "revoked_count");
  }

  /**
   * Revokes sessions by their ids, at most 400. Returns once no node serves them as live.
   *
   * Unknown ids are ignored.
   */
  async revokeSessions(ids: readonly string[], { reason }: Reason = {}): Promise<Revoked> {
    const body = { ids, reason };
    const path = "sessions/revoke";
    const reply = await this.#transport.send({ method: "POST", path, body });
    return bodyOf<Revoked>(reply, "revoked_count");
  }

  /** Returns a page of the event feed. */
  async listEvents(list: ListEvents = {}): Promise<EventPage> {
    const reply = await this.#transport.send({ method: "GET", path: `events${query(list)}` });
    return bodyOf<EventPage>(reply, "events", "next_after");
  }
}

/** Returns an id as a segment of a path. Anything but a UUID could name another call. */
function segment(field: string, id: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) {
    throw invalidRequest(field, "must be a UUID, hyphenated");
  }
  return id;
}

/** Returns a header that can be sent. */
function header(name: string, value: string): Record<string, string> {
  if (!/^[\x20-\x7e]+$/.test(value)) {
    throw invalidRequest(name, "must be visible ASCII characters");
  }
  return { [name]: value };
}

/** Returns the query of the values that are there. */
function query(values: ListSessions | ListEvents): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined) {
      query.set(name, String(value));
    }
  }
  return `?${query}`;
}

/** Reads a session with its version. */
function inspected(reply: Reply): InspectedSession {
  const session = bodyOf<WholeSession>(reply, "id", "user_id", "status");
  const etag = reply.headers.get("etag");
  if (etag === null) {
    throw new SessiondUnavailable("the response has no ETag");
  }
  return { session, etag };
}

/** Checks that a call was done: a success of something else must not pass for a revocation. */
function done({ status }: Reply): void {
  if (status !== 204) {
    throw new SessiondUnavailable(`the response is not sessiond's: status ${status}`);
  }
}

/** Keeps fields of a result from logs and JSON. What is absent becomes null. */
function hidden<T extends object>(result: T, ...fields: (keyof T)[]): T {
  for (const field of fields) {
    Object.defineProperty(result, field, { value: result[field] ?? null, enumerable: false });
  }
  return result;
}
