/** Runs the cases of `clients/conformance.json` with each framework. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import type { TestContext } from "node:test";

import express from "express";
import type { Response as ExpressResponse } from "express";
import { Hono } from "hono";
import { SessiondClient, SessiondRefusal, SessiondUnavailable } from "sessiond-client";
import type { GuardOptions } from "sessiond-client";
import * as forExpress from "sessiond-client/express";
import * as forHono from "sessiond-client/hono";

type Values = Record<string, any>;

interface Step {
  call?: string;
  args: Values;
  request: { method: string; headers: Record<string, string> };
  expect?: Values;
  refusal?: Values;
  unavailable?: Values;
  save?: Record<string, string>;
}

interface Case {
  name: string;
  options?: Values;
  responses?: unknown[];
  steps: Step[];
  within_ms?: number;
}

/** Sends a request to a guarded application. */
type Send = (request: RequestInit) => Response | Promise<Response>;

const frameworks = {
  async express(client: SessiondClient, options: GuardOptions, context: TestContext) {
    const app = express();
    app.use(forExpress.requireSession(client, options));
    app.use((_req, res: ExpressResponse<unknown, forExpress.SessionLocals>) => {
      const { user_id, id } = res.locals.session;
      res.json({ user_id, session_id: id });
    });
    const server = app.listen(0, "127.0.0.1");
    await once(server, "listening");
    context.after(() => {
      server.close();
      server.closeAllConnections();
    });
    const { port } = server.address() as AddressInfo;
    return (request: RequestInit) =>
      fetch(`http://127.0.0.1:${port}/`, { ...request, redirect: "manual" });
  },

  async hono(client: SessiondClient, options: GuardOptions) {
    const app = new Hono<forHono.SessionEnv>();
    app.use(forHono.requireSession(client, options));
    app.all("/", (c) => {
      const { user_id, id } = c.get("session");
      return c.json({ user_id, session_id: id });
    });
    return (request: RequestInit) => app.request("/", request);
  },
};

const sessiond = environment("SESSIOND_URL");
const serviceKey = environment("SESSIOND_KEY");
const scripted = environment("SCRIPTED_URL");
const { cases }: { cases: Case[] } = JSON.parse(readFileSync(environment("CONFORMANCE"), "utf8"));

for (const [framework, guardedApplication] of Object.entries(frameworks)) {
  for (const [index, { name, options = {}, responses, steps, within_ms }] of cases.entries()) {
    test(`${framework}: ${name}`, async (context) => {
      const client = new SessiondClient({
        url: responses ? `${scripted}/${framework}/${index}` : sessiond,
        serviceKey,
        timeoutMs: options.timeout_ms,
        attemptTimeoutMs: options.attempt_timeout_ms,
        retries: options.retries,
      });
      const guard = {
        signInPath: options.sign_in_path,
        cookieName: options.cookie_name,
        allowedOrigins: options.allowed_origins,
      };
      const send = await guardedApplication(client, guard, context);
      const saved: Values = { user: randomUUID(), other_user: randomUUID() };
      const started = performance.now();
      for (const [number, step] of steps.entries()) {
        await run(client, send, filledIn(step, saved), saved, `step ${number}`);
      }
      assert.ok(performance.now() - started < (within_ms ?? Infinity), "took too long");
    });
  }
}

async function run(client: SessiondClient, send: Send, step: Step, saved: Values, where: string) {
  const { call, args, request, expect = {}, refusal, unavailable, save = {} } = step;
  let outcome: unknown;
  if (refusal || unavailable) {
    assert.ok(call);
    const failure = await outcomeOf(client, call, args).then(
      () => assert.fail(`${where}: ${call} succeeded`),
      (error: unknown) => error,
    );
    if (refusal) {
      assert.ok(failure instanceof SessiondRefusal, `${where}: ${failure}`);
      outcome = failure.problem;
    } else {
      assert.ok(failure instanceof SessiondUnavailable, `${where}: ${failure}`);
      outcome = { retry_after: failure.retryAfter };
    }
  } else {
    outcome = call ? await outcomeOf(client, call, args) : await shown(await send(request));
  }
  for (const [path, value] of Object.entries({ ...expect, ...refusal, ...unavailable })) {
    const found = at(outcome, path);
    if (value === "*") {
      assert.notEqual(found ?? null, null, `${where}: ${path}`);
    } else {
      assert.deepEqual(found ?? null, value, `${where}: ${path}`);
    }
  }
  for (const [name, path] of Object.entries(save)) {
    saved[name] = at(outcome, path);
  }
}

/** Returns the result of a call that is named in the words of the API description. */
async function outcomeOf(client: SessiondClient, call: string, args: Values): Promise<unknown> {
  const { session_id, user_id, token, ids, ...rest } = args;
  switch (call) {
    case "create_session":
      return client.createSession(args);
    case "get_session":
      return client.getSession(session_id, { user_id });
    case "inspect_session":
      return client.inspectSession(session_id);
    case "verify_token":
      return client.verifyToken(token, rest);
    case "edit_session":
      return client.editSession(session_id, rest);
    case "record_activity":
      return client.recordActivity(session_id, rest);
    case "rotate_token":
      return client.rotateToken(session_id);
    case "list_user_sessions":
      return client.listUserSessions(user_id, rest);
    case "revoke_session":
      return client.revokeSession(session_id, rest);
    case "revoke_all_user_sessions":
      return client.revokeAllUserSessions(user_id, rest);
    case "revoke_sessions":
      return client.revokeSessions(ids, rest);
    case "list_events":
      return client.listEvents(args);
    default:
      return assert.fail(`there is no call ${call}`);
  }
}

/** Returns what the paths of a case lead through in a response. */
async function shown(response: Response): Promise<unknown> {
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json") && text !== "";
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: isJson ? JSON.parse(text) : null,
  };
}

/** Returns the value at a path such as `sessions.0.id`. */
function at(value: any, path: string): unknown {
  return path.split(".").reduce((found, part) => found?.[part], value);
}

/** Returns a value with saved ones in the place of their names. */
function filledIn<T>(value: T, saved: Values): T {
  const filled = (found: unknown): unknown => {
    if (typeof found === "string") {
      return found.replace(/\{(\w+)\}/g, (text, name) => saved[name] ?? text);
    }
    if (Array.isArray(found)) {
      return found.map(filled);
    }
    if (typeof found === "object" && found !== null) {
      return Object.fromEntries(Object.entries(found).map(([name, it]) => [name, filled(it)]));
    }
    return found;
  };
  return filled(value) as T;
}

function environment(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`the conformance suite needs ${name}: see clients/README.md`);
  }
  return value;
}
