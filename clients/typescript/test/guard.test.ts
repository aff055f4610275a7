/** What the conformance suite does not show of guarded applications. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";

import express from "express";
import type { ErrorRequestHandler } from "express";
import { Hono } from "hono";
import { clearCookie, SessiondClient } from "sessiond-client";
import type { Session } from "sessiond-client";
import * as forExpress from "sessiond-client/express";
import * as forHono from "sessiond-client/hono";

import { bodyOf, serve, urlOf } from "./server.js";

const ID = "01900000-0000-7000-8000-000000000001";
const LIVE = { status: "live", session: { id: ID } };

/** Starts a node that knows this of every token, and returns its client and what it was asked. */
async function node(context: TestContext, verification: object = LIVE) {
  const asked: unknown[] = [];
  const url = await serve(context, async (request, response) => {
    asked.push(await bodyOf(request));
    response.end(JSON.stringify(verification));
  });
  return { client: new SessiondClient({ url, serviceKey: "key" }), asked };
}

/** Returns what sends requests to an application that this client guards. */
function application(client: SessiondClient, options: forHono.HonoGuardOptions = {}) {
  const app = new Hono();
  app.all("/", forHono.requireSession(client, options), (c) => c.text(c.get("session").id));
  app.onError((error, c) => c.text(error.message, 500));
  return (headers: Record<string, string>, method = "GET") =>
    app.request("/", { headers, method });
}

test("the end user's address reaches sessiond", async (context) => {
  const { client, asked } = await node(context);
  const headers = { authorization: "Bearer x" };

  const app = express();
  app.get("/:page", forExpress.requireSession(client), (req, res) => {
    const page: string = req.params.page;
    const { id }: Session = res.locals.session;
    res.send(page + id);
  });
  const url = await urlOf(app.listen(0, "127.0.0.1"), context);
  assert.equal(await (await fetch(`${url}/page`, { headers })).text(), `page${ID}`);

  const send = application(client, { ipAddress: () => "192.0.2.7" });
  assert.equal(await (await send(headers)).text(), ID);

  assert.deepEqual(asked, [
    { token: "x", ip_address: "127.0.0.1" },
    { token: "x", ip_address: "192.0.2.7" },
  ]);
});

test("what cannot be a token is refused unasked", async (context) => {
  const { client, asked } = await node(context);
  const send = application(client);
  for (const token of ["x".repeat(16_001), '"'.repeat(9_000), "a b", "sds_\u00fc", ""]) {
    const { status } = await send({ authorization: `Bearer ${token}` });
    assert.equal(status, 401, token.slice(0, 9));
  }
  assert.deepEqual(asked, []);
  assert.equal((await send({ authorization: `Bearer ${"x".repeat(16_000)}` })).status, 200);
});

test("a cookie is found among others by its whole name", async (context) => {
  const { client, asked } = await node(context);
  const send = application(client);
  await send({ cookie: "a=1; x__Host-session=2;__Host-session = sds_a== ; c; __Host-session=3" });
  await send({ cookie: "__host-session=4; __Host-session" });
  assert.deepEqual(asked, [{ token: "sds_a==" }]);
});

test("a request without an origin is not of the empty one", async (context) => {
  const { client } = await node(context);
  const send = application(client, { allowedOrigins: [""] });
  assert.equal((await send({ cookie: "__Host-session=x" }, "POST")).status, 403);
});

test("a session that was live once has ended", async (context) => {
  for (const status of ["revoked", "expired", "idle"]) {
    const { client } = await node(context, { ...LIVE, status });
    const response = await application(client)({ authorization: "Bearer x" });
    assert.equal(response.status, 401);
    const { code } = (await response.json()) as { code: string };
    assert.equal(code, "session_ended");
  }
});

test("a live token without a session lets no one in", async (context) => {
  const { client } = await node(context, { status: "live", session: null });
  assert.equal((await application(client)({ authorization: "Bearer x" })).status, 503);
});

test("an error that is not sessiond's is the application's", async (context) => {
  class Broken extends SessiondClient {
    override verifyToken = () => Promise.reject(new Error("broken"));
  }
  const client = new Broken({ url: "http://127.0.0.1:2", serviceKey: "key" });
  const headers = { authorization: "Bearer x" };
  const response = await application(client)(headers);
  assert.equal(await response.text(), "broken");

  const app = express();
  app.use(forExpress.requireSession(client));
  const handle: ErrorRequestHandler = (error, _req, res, _next) => void res.send(error.message);
  app.use(handle);
  const url = await urlOf(app.listen(0, "127.0.0.1"), context);
  assert.equal(await (await fetch(url, { headers })).text(), "broken");
});

test("the cookie is removed by the attributes that it was set with", () => {
  const attributes = "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0";
  assert.equal(clearCookie(), `__Host-session=; ${attributes}`);
  assert.equal(clearCookie("sid"), `sid=; ${attributes}`);
});
