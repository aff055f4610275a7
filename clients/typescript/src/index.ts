/** The client of sessiond, for an application's backend. */

export { SessiondClient } from "./client.js";
export { SessiondRefusal, SessiondUnavailable } from "./errors.js";
export type { Refused } from "./errors.js";
export { clearCookie } from "./guard.js";
export type { GuardOptions } from "./guard.js";
export type { ClientOptions } from "./transport.js";
export type * from "./types.js";
