// Signs a user in, verifies the session's token, and signs the user out.

import { SessiondClient } from "sessiond-client";

const { SESSIOND_URL, SESSIOND_KEY } = process.env;
const sessions = new SessiondClient({ url: SESSIOND_URL, serviceKey: SESSIOND_KEY });
const user_id = "00000000-0000-4000-8000-000000000001";
const { id, token } = await sessions.createSession({ user_id, issue_token: true });
console.log((await sessions.verifyToken(token)).status); // live
await sessions.revokeSession(id, { reason: "signed out" });
console.log((await sessions.verifyToken(token)).status); // revoked
