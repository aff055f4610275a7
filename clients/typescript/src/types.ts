/** What calls take and return, in the names of the API description. */

import type { components, operations } from "./api.js";

type Schemas = components["schemas"];

/** Lets undefined stand for what is absent. */
type Loose<T> = { [Name in keyof T]: T[Name] | undefined };

/** The query of a list: null is absent too, as in `next_cursor`. */
type Query<Name extends "list_user_sessions" | "list_events"> = {
  [Field in keyof NonNullable<operations[Name]["parameters"]["query"]>]:
    | NonNullable<operations[Name]["parameters"]["query"]>[Field]
    | null
    | undefined;
};

/** A session. What is not known is null. */
export type Session = Schemas["SessionBody"];

/** A session with its user agent, and what the application keeps with it. */
export type WholeSession = Schemas["WholeSessionBody"];

/** A sign-in: the user is named by `user_id`, or by `issuer` and `subject`. */
export type CreateSession = Loose<Schemas["CreateSessionBody"]> & {
  /** Names this sign-in, so that another call can repeat it; a random one, if absent. */
  idempotency_key?: string | undefined;
};

/**
 * A session that was created. `token` and `set_cookie` are null where no token was asked for.
 * Neither is enumerable, so that logs and JSON do not show them.
 */
export type CreatedSession = Schemas["CreatedSessionBody"] & {
  token: string | null;
  set_cookie: string | null;
};

/** A session with the version of its name and metadata. */
export interface InspectedSession {
  /** The session. */
  session: WholeSession;
  /** For `if_match` of `editSession`. */
  etag: string;
}

/** What a token is worth, and its session, unless it is `invalid`. */
export type Verification = Schemas["VerifiedBody"];

/** A change of name and metadata: what is absent stays, null removes it. */
export type EditSession = Loose<Schemas["EditSessionBody"]> & {
  /** The `etag` of what the caller has seen: refused, if that has changed since. */
  if_match?: string | undefined;
};

/** Where an end user calls from. */
export type EndUser = Loose<Schemas["RecordActivityBody"]>;

/** A session token that has replaced the one before. Neither field is enumerable. */
export type RotatedToken = Schemas["TokenBody"];

/** Which sessions of a user to list. */
export type ListSessions = Query<"list_user_sessions">;

/** A page of a user's sessions, the newest first. */
export type SessionList = Schemas["ListBody"];

/** Why sessions are revoked. */
export type Reason = Loose<Schemas["ReasonBody"]>;

/** Why the sessions of a user are revoked, and which one is not. */
export type RevokeAllUserSessions = Loose<Schemas["RevokeAllUserSessionsBody"]>;

/** How many sessions were revoked. */
export interface Revoked {
  /** Those that were revoked before do not count. */
  revoked_count: number;
}

/** Which events to list. */
export type ListEvents = Query<"list_events">;

/** A page of the event feed, the oldest first. */
export type EventPage = Schemas["EventsBody"];

/** What is wrong with one field of a request. */
export type FieldError = Schemas["FieldError"];

/** What sessiond says of a request that it refuses (RFC 9457). */
export type Problem = Schemas["ProblemBody"];
