// What the browser tests share: Chromium, the node that they drive, and sign-ins on it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

const { PUBLIC_URL, SERVICE_URL, SERVICE_KEY } = process.env;
export const publicUrl = PUBLIC_URL;

const MAC =
  "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) " +
  "Chrome/140.0.0.0 Safari/537.36";
export const PHONE =
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like " +
  "Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

// As root there is no sandbox; the other switches keep Chromium from calling the Internet.
const SWITCHES = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: SWITCHES });

/** Calls the service listener; returns the body. Tried again while a busy machine writes slowly. */
export const service = async (method, path, body) => {
  const headers = { authorization: `Bearer ${SERVICE_KEY}`, "content-type": "application/json" };
  const options = { method, headers, body: JSON.stringify(body) };
  let response = await fetch(SERVICE_URL + path, options);
  for (let attempt = 1; response.status === 503 && attempt < 20; attempt += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    response = await fetch(SERVICE_URL + path, options);
  }
  assert(response.ok, `${method} ${path}: ${response.status}`);
  return response.status === 204 ? null : response.json();
};

export const newUser = () => crypto.randomUUID();

/** Signs a user in on a device; returns the session with its token. */
export const signIn = (user_id, user_agent = MAC) =>
  service("POST", "/service/v1/sessions",
    { user_id, user_agent, ip_address: "192.0.2.7", issue_token: true });

export const status = async ({ id }) => (await service("GET", `/service/v1/sessions/${id}`)).status;

/** Opens a page in a browser of its own that has the session's cookie. Fails on what the page logs:
    a violation of its Content-Security-Policy is such a message. */
export const open = async (browser, session, options = {}, path = "/devices") => {
  const context = await browser.newContext({ viewport: { width: 900, height: 700 }, ...options });
  if (session) {
    const { hostname } = new URL(publicUrl);
    await context.addCookies([{
      name: "__Host-session", value: session.token, domain: hostname, path: "/",
      secure: true, httpOnly: true, sameSite: "Lax",
    }]);
  }
  const page = await context.newPage();
  page.problems = [];
  page.requested = [];
  page.on("pageerror", (error) => page.problems.push(error.message));
  // Chromium logs each response of 400 and more; those are looked at by themselves.
  page.on("console", (message) => {
    const isResponse = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isResponse) page.problems.push(message.text());
  });
  page.on("request", (request) => page.requested.push(request.url()));
  await page.goto(new URL(path, publicUrl).href);
  return page;
};

const axePath = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const axeSource = readFileSync(axePath, "utf8");

/** Fails if axe finds anything to object to. It is evaluated past the page's policy. */
export const checkAccessibility = async (page) => {
  const isThere = await page.evaluate("typeof axe === 'object'");
  if (!isThere) await page.evaluate(axeSource);
  const { violations } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((it) => it.html).join(" ")}`);
  assert.deepEqual(found, []);
};

/** Waits until a condition holds, for at most ten seconds. */
export const eventually = async (condition, what) => {
  const until = Date.now() + 10_000;
  for (;;) {
    const result = await condition();
    if (result) return result;
    assert(Date.now() < until, `not within ten seconds: ${what ?? condition}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
