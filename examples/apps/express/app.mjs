// A small application over sessiond, with Express: sign in, see your devices, sign out this one or
// the others.

import express from "express";
import {
  clearCookie,
  SessiondClient,
  SessiondRefusal,
  SessiondUnavailable,
} from "sessiond-client";
import { requireSession } from "sessiond-client/express";

const { SESSIOND_URL, SESSIOND_KEY, PORT } = process.env;

// Checking passwords is the application's own: store hashes of them.
const users = [
  { id: "00000000-0000-4000-8000-00000000000a", name: "ada", password: "lovelace" },
  { id: "00000000-0000-4000-8000-00000000000b", name: "alan", password: "turing" },
];

const form = `<form method="post" action="/sign-in">
<input name="name" placeholder="name">
<input name="password" type="password" placeholder="password">
<button>Sign in</button></form>`;

const buttons = `<form method="post" action="/sign-out"><button>Sign out</button></form>
<form method="post" action="/sign-out-others"><button>Sign out other devices</button></form>`;

const sessiond = new SessiondClient({ url: SESSIOND_URL, serviceKey: SESSIOND_KEY });
const guard = requireSession(sessiond, { signInPath: "/sign-in" });
const app = express();

app.get("/sign-in", (req, res) => {
  res.send(form);
});

app.post("/sign-in", express.urlencoded({ extended: false }), async (req, res) => {
  const { name, password } = req.body ?? {};
  const user = users.find((user) => user.name === name && user.password === password);
  if (user === undefined) {
    res.status(401).send(`<p>Wrong name or password.</p>${form}`);
    return;
  }
  const { set_cookie } = await sessiond.createSession({
    user_id: user.id,
    ip_address: req.ip,
    user_agent: req.get("user-agent"),
    issue_token: true,
  });
  res.set("Set-Cookie", set_cookie).redirect(303, "/");
});

app.get("/", guard, async (req, res) => {
  const own = res.locals.session;
  const { sessions } = await sessiond.listUserSessions(own.user_id, { active_only: true });
  const items = sessions.map(({ id, device_info, ip_address }) => {
    const device = escaped(device_info ?? "unknown device");
    const address = escaped(ip_address ?? "unknown address");
    return `<li>${device}, ${address}${id === own.id ? ", this device" : ""}</li>`;
  });
  const user = users.find((user) => user.id === own.user_id);
  const name = escaped(user?.name ?? "stranger");
  res.send(`<h1>Hello, ${name}</h1><ul>${items.join("")}</ul>${buttons}`);
});

app.post("/sign-out", guard, async (req, res) => {
  await sessiond.revokeSession(res.locals.session.id, { reason: "signed out" });
  res.set("Set-Cookie", clearCookie()).redirect(303, "/sign-in");
});

app.post("/sign-out-others", guard, async (req, res) => {
  const { id, user_id } = res.locals.session;
  await sessiond.revokeAllUserSessions(user_id, {
    except_session_id: id,
    reason: "signed out elsewhere",
  });
  res.redirect(303, "/");
});

// sessiond refuses a call, or cannot be reached. Neither signs anyone out.
app.use((error, req, res, next) => {
  if (!(error instanceof SessiondRefusal || error instanceof SessiondUnavailable)) {
    next(error);
    return;
  }
  console.error(error.message);
  res.status(503).set("Retry-After", String(error.retryAfter ?? 1));
  res.type("text").send("Sessions cannot be reached at present. Please try again.");
});

function escaped(text) {
  const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}

const server = app.listen(PORT, "127.0.0.1", (error) => {
  if (error) {
    throw error;
  }
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
