/** What the conformance suite does not show of calls. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import { SessiondClient, SessiondRefusal, SessiondUnavailable } from "sessiond-client";

import { bodyOf, serve } from "./server.js";

const SERVICE_KEY = "a-service-key-that-no-log-may-show";
const TOKEN = "sds_a-token-that-no-log-may-show";
const ID = "01900000-0000-7000-8000-000000000001";
const SESSION = { id: ID, user_id: ID, status: "live" };
const COOKIE = `__Host-session=${TOKEN}; HttpOnly`;

/** Returns a client of this URL that attempts a call once. */
function clientOf(url: string) {
  return new SessiondClient({ url, serviceKey: SERVICE_KEY, retries: 0 });
}

/** Returns the error of a call that fails, once it is checked that it has no secret. */
async function errorOf(call: Promise<unknown>): Promise<SessiondRefusal | SessiondUnavailable> {
  const error = await call.then(
    () => assert.fail("the call succeeded"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof SessiondRefusal || error instanceof SessiondUnavailable);
  const shown = [String(error), error.stack, JSON.stringify(error), inspect(error, hidden())];
  assert.doesNotMatch(shown.join(), /may-show/);
  return error;
}

function hidden() {
  return { showHidden: true, depth: Infinity };
}

test("the service key is not shown with the client", () => {
  const client = clientOf("http://127.0.0.1:2");
  assert.doesNotMatch(inspect(client, hidden()) + JSON.stringify(client), /may-show/);
});

test("tokens are in results, and not shown with them", async (context) => {
  const body = { ...SESSION, evicted: [], token: TOKEN, set_cookie: COOKIE };
  const url = await serve(context, (_, response) => response.end(JSON.stringify(body)));
  const client = clientOf(url);
  const created = await client.createSession({ user_id: ID, issue_token: true });
  for (const result of [created, await client.rotateToken(ID)]) {
    assert.equal(result.token, TOKEN);
    assert.equal(result.set_cookie, COOKIE);
    assert.doesNotMatch(inspect(result) + JSON.stringify(result), /may-show/);
  }
});

test("a session without a token has null for it", async (context) => {
  const body = JSON.stringify({ ...SESSION, evicted: [] });
  const url = await serve(context, (_, response) => response.end(body));
  const { token, set_cookie } = await clientOf(url).createSession({ user_id: ID });
  assert.deepEqual([token, set_cookie], [null, null]);
});

test("no secret is in the error of a response that is not understood", async (context) => {
  const bodies = [`{"token": "${TOKEN}", }`, `"${TOKEN}"`, `{"token": "${TOKEN}"}`, ""];
  const url = await serve(context, (_, response) => response.end(bodies.shift()));
  while (bodies.length > 0) {
    assert.ok((await errorOf(clientOf(url).rotateToken(ID))) instanceof SessiondUnavailable);
  }
});

test("no secret is in the error of a response that is no HTTP", async (context) => {
  const url = await serve(context, ({ socket }) => socket.end(`HTTP/1.1 2OO ${TOKEN}\r\n\r\n`));
  const error = await errorOf(clientOf(url).rotateToken(ID));
  assert.ok(error instanceof SessiondUnavailable);
});

test("the error says why there is no connection", async () => {
  const error = await errorOf(clientOf("http://127.0.0.1:2").verifyToken(TOKEN));
  assert.match(error.message, /^sessiond is unavailable: no response: .*ECONNREFUSED/);
});

test("a URL, a key or a number that cannot be one is refused", () => {
  const good = { url: "http://127.0.0.1:8081", serviceKey: SERVICE_KEY };
  const bad: [object, ErrorConstructor][] = [
    ...["", "127.0.0.1:8081", "ftp://node", "http://", "http://node?x=1", "http://node#x"].map(
      (url): [object, ErrorConstructor] => [{ url }, TypeError],
    ),
    [{ url: undefined }, TypeError],
    [{ url: SERVICE_KEY, serviceKey: good.url }, TypeError],
    [{ url: `http://a:${SERVICE_KEY}@node` }, TypeError],
    ...["", "two words", "line\n", "schlüssel", undefined].map(
      (serviceKey): [object, ErrorConstructor] => [{ serviceKey }, TypeError],
    ),
    ...[0, -1, NaN, Infinity].map((ms): [object, ErrorConstructor] => [
      { timeoutMs: ms },
      RangeError,
    ]),
    [{ attemptTimeoutMs: 0 }, RangeError],
    [{ retries: -1 }, RangeError],
    [{ retries: NaN }, RangeError],
  ];
  for (const [options, kind] of bad) {
    assert.throws(
      () => new SessiondClient({ ...good, ...options }),
      (error) => error instanceof kind && !inspect(error, hidden()).includes("may-show"),
      inspect(options),
    );
  }
});

test("a URL may have a path, with a slash at its end or without", async (context) => {
  const paths: (string | undefined)[] = [];
  const url = await serve(context, ({ url: path }, response) => {
    paths.push(path);
    response.end(JSON.stringify(SESSION));
  });
  for (const path of ["/sessions", "/sessions/"]) {
    await clientOf(url + path).getSession(ID, { user_id: "?" });
  }
  const expected = `/sessions/service/v1/sessions/${ID}?user_id=%3F`;
  assert.deepEqual(paths, [expected, expected]);
});

test("what would name another call, or is no header, is refused before it is sent", async () => {
  const client = clientOf("http://127.0.0.1:2");
  const calls = [
    [client.revokeSession(".."), "id"],
    [client.inspectSession("verify"), "id"],
    [client.listUserSessions(`${ID}/..`), "user_id"],
    [client.editSession(ID, { if_match: "a\nb" }), "If-Match"],
    [client.createSession({ user_id: ID, idempotency_key: "ü" }), "Idempotency-Key"],
  ] as const;
  for (const [call, field] of calls) {
    const error = await errorOf(call);
    assert.ok(error instanceof SessiondRefusal);
    assert.equal(error.problem.status, 400);
    assert.ok(!("status" in error));
    assert.equal(error.problem.errors[0]?.field, field);
  }
});

test("a session is never read without its user, even in JavaScript", async (context) => {
  const url = await serve(context, (request, response) => {
    assert.match(request.url ?? "", /\?user_id=/);
    response.end(JSON.stringify(SESSION));
  });
  await clientOf(url).getSession(ID, { user_id: undefined as unknown as string });
});

test("a page is read on from null, as from nothing", async (context) => {
  const url = await serve(context, (request, response) => {
    assert.match(request.url ?? "", /sessions\?limit=2$/);
    const list = { sessions: [], total_count: 0, active_count: 0, next_cursor: null };
    response.end(JSON.stringify(list));
  });
  const options = { limit: 2, cursor: null, active_only: undefined };
  await clientOf(url).listUserSessions(ID, options);
});

test("what an edit leaves out stays, and null removes", async (context) => {
  const bodies: unknown[] = [];
  const url = await serve(context, async (request, response) => {
    bodies.push(await bodyOf(request));
    response.setHeader("ETag", '"1"').end(JSON.stringify(SESSION));
  });
  await clientOf(url).editSession(ID, { name: null, metadata: undefined });
  assert.deepEqual(bodies, [{ name: null }]);
});

test("a success of something else is no revocation", async (context) => {
  const url = await serve(context, (_, response) => response.end("<html>Sign in</html>"));
  assert.ok((await errorOf(clientOf(url).revokeSession(ID))) instanceof SessiondUnavailable);
});

test("a problem of something else is no refusal", async (context) => {
  const problem = { type: "urn:sessiond:problem:not_found", title: "x", code: "not_found" };
  const problems = [
    { ...problem, status: 404, type: "about:blank" },
    { ...problem, status: 403 },
    { ...problem },
    { ...problem, status: 404, title: null },
  ];
  const url = await serve(context, (_, response) => {
    response.writeHead(404).end(JSON.stringify(problems.shift()));
  });
  while (problems.length > 0) {
    assert.ok((await errorOf(clientOf(url).inspectSession(ID))) instanceof SessiondUnavailable);
  }
});

test("a request that did not arrive in time is no refusal", async (context) => {
  const code = "request_timeout";
  const problem = { type: `urn:sessiond:problem:${code}`, title: "x", status: 408, code };
  const url = await serve(context, (_, response) => {
    response.writeHead(408).end(JSON.stringify(problem));
  });
  const error = await errorOf(clientOf(url).inspectSession(ID));
  assert.equal(error.message, "sessiond is unavailable: 408 request_timeout: x");
});

test("the service key does not follow a redirect", async (context) => {
  const paths: (string | undefined)[] = [];
  const url = await serve(context, (request, response) => {
    paths.push(request.url);
    response.writeHead(307, { Location: "/elsewhere" }).end();
  });
  assert.ok((await errorOf(clientOf(url).inspectSession(ID))) instanceof SessiondUnavailable);
  assert.deepEqual(paths, [`/service/v1/sessions/${ID}`]);
});

test("a body that does not end, or is too large, is no response", { timeout: 5000 }, async (t) => {
  const url = await serve(t, (request, response) => {
    response.write("{");
    const fill = () => {
      while (request.url?.includes("events") && response.write(" ".repeat(65536)));
    };
    response.on("drain", fill);
    fill();
  });
  const options = { url, serviceKey: SERVICE_KEY, timeoutMs: 2000, retries: 0 };
  const client = new SessiondClient({ ...options, attemptTimeoutMs: 200 });
  assert.match((await errorOf(client.inspectSession(ID))).message, /no response in time$/);
  const patient = new SessiondClient(options);
  assert.match((await errorOf(patient.listEvents())).message, /is not sessiond's/);
});
