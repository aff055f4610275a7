/** The sample of README.md, so that it is compiled. */

import express from "express";
import { SessiondClient } from "sessiond-client";
import { requireSession } from "sessiond-client/express";

const { SESSIOND_URL, SESSIOND_KEY } = process.env;
const client = new SessiondClient({ url: SESSIOND_URL!, serviceKey: SESSIOND_KEY! });
const app = express();

app.get("/", requireSession(client, { signInPath: "/sign-in" }), (req, res) => {
  res.send(`Hello, ${res.locals.session.user_id}`);
});

app.post("/sign-in", async (req, res) => {
  const user_id = "00000000-0000-4000-8000-00000000000a"; // The password was right.
  const signIn = { user_id, ip_address: req.ip, issue_token: true };
  const { set_cookie } = await client.createSession(signIn);
  res.set("Set-Cookie", set_cookie!).redirect(303, "/");
});
