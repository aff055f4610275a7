// The operators' page in a real browser, on a node of its own: it revokes all users' sessions.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { checkAccessibility, eventually, launch, newUser, PHONE } from "./browser.mjs";

const { CONSOLE_URL, DEMO_SERVICE_URL, DEMO_KEY, SCREENSHOTS } = process.env;
// Of the node's configuration: `support` may do everything, `reader` only read.
const SUPPORT_KEY = "key";
const READER_KEY = "password";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const service = async (method, path, body) => {
  const headers = { authorization: `Bearer ${SUPPORT_KEY}`, "content-type": "application/json" };
  const response = await fetch(CONSOLE_URL + path, { method, headers, body: JSON.stringify(body) });
  assert(response.ok, `${method} ${path}: ${response.status}`);
  return response.status === 204 ? null : response.json();
};
const signIn = (user_id, fields = {}) =>
  service("POST", "/service/v1/sessions", { user_id, ip_address: "192.0.2.7", ...fields });
const inspect = ({ id }) => service("GET", `/service/v1/sessions/${id}`);

const open = async (key = SUPPORT_KEY, url = CONSOLE_URL) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(error.message));
  page.on("console", (message) => {
    const isResponse = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isResponse) page.problems.push(message.text());
  });
  await page.goto(`${url}/console`);
  await enter(page, key);
  return page;
};

const enter = async (page, key) => {
  await page.locator("#key").fill(key);
  await page.getByRole("button", { name: "Enter" }).click();
};

const close = async (page) => {
  assert.deepEqual(page.problems, []);
  await page.context().close();
};

const search = async (page, conditions) => {
  await page.locator("#search").evaluate((form) => form.reset());
  for (const [name, value] of Object.entries(conditions)) {
    const field = page.locator(`#search [name=${name}]`);
    await (name === "status" ? field.selectOption(value) : field.fill(value));
  }
  await page.getByRole("button", { name: "Search" }).click();
};

const finds = (page, count) =>
  eventually(async () => (await page.locator("#rows tr").count()) === count, `${count} rows`);

/** Confirms a revocation, with the word if one is asked for; returns what the dialog said. */
const confirm = async (page, reason, word) => {
  await page.getByRole("dialog").waitFor();
  const text = await page.locator("#dialog-text").textContent();
  await page.locator("#reason").fill(reason);
  if (word) {
    assert(await page.locator("#confirm").isDisabled(), "not without the word");
    await page.locator("#word").fill(word);
  }
  await page.locator("#confirm").click();
  return text;
};

test("a key is asked for, kept in memory only, and can do what its scopes say", async () => {
  const user = newUser();
  await signIn(user);
  const page = await open("wrong");
  await eventually(() => page.locator("#entry-error").textContent());
  assert.match(await page.locator("#entry-error").textContent(), /not accepted/);
  await checkAccessibility(page);
  await enter(page, READER_KEY);
  await search(page, { user_id: user });
  await finds(page, 1);
  await page.getByRole("button", { name: /^Revoke .* of / }).click();
  await confirm(page, "not allowed");
  await eventually(() => page.locator("#error").textContent());
  assert.match(await page.locator("#error").textContent(), /scope|not accepted|not allowed/i);
  const kept = () => [localStorage.length, sessionStorage.length, document.cookie];
  assert.deepEqual(await page.evaluate(kept), [0, 0, ""]);
  assert.doesNotMatch(await page.content(), new RegExp(READER_KEY + "[^\"]"));
  await page.reload();
  assert(await page.locator("#entry").isVisible(), "the key is gone");
  await close(page);
});

test("sessions are searched by each condition, page by page", async () => {
  const user = newUser();
  await Promise.all(Array.from({ length: 60 }, () => signIn(user, { ip_address: "203.0.113.9" })));
  const phone = await signIn(user, { user_agent: PHONE, ip_address: "198.51.100.20" });
  const page = await open();
  await search(page, { user_id: user });
  await finds(page, 50);
  await page.getByRole("button", { name: "Show more" }).click();
  await finds(page, 61);
  for (const conditions of [
    { user_id: user, device: "ios" }, { user_id: user, device: "mobile", status: "live" },
    { ip: "198.51.100.20" },
  ]) {
    await search(page, conditions);
    await finds(page, 1);
    assert.equal(await page.locator("#rows tr").getAttribute("id"), phone.id);
  }
  await search(page, { user_id: user, status: "revoked" });
  await finds(page, 0);
  await search(page, { user_id: user, created_after: "2100-01-01T00:00" });
  await finds(page, 0);
  await search(page, { ip: "nonsense" });
  await eventually(() => page.locator("#error").textContent());
  assert.match(await page.locator("#error").textContent(), /ip must be an IP address/);
  await close(page);
});

test("one session is revoked, and its story says by whom and why", async () => {
  const user = newUser();
  const session = await signIn(user);
  await service("PATCH", `/service/v1/sessions/${session.id}`, { name: "<b>phone</b>" });
  const page = await open();
  await search(page, { user_id: user });
  await finds(page, 1);
  await page.getByRole("button", { name: /^Revoke .* of / }).click();
  await page.getByRole("dialog").waitFor();
  await checkAccessibility(page);
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await inspect(session)).status, "live");
  await page.getByRole("button", { name: /^Revoke .* of / }).click();
  await confirm(page, "lost phone");
  await eventually(async () => (await inspect(session)).status === "revoked");
  await eventually(() => page.locator("#rows .revoked").count());
  await page.getByRole("button", { name: "<b>phone</b>", exact: true }).click();
  await page.locator("#events li").nth(1).waitFor();
  const events = await page.locator("#events").textContent();
  assert.match(events, /created.*revoked by service:support: lost phone/);
  await checkAccessibility(page);
  await close(page);
});

test("selected, matching and a user's sessions are counted first and then revoked", async () => {
  const [one, two] = [newUser(), newUser()];
  const address = "203.0.113.77";
  const ones = await Promise.all([1, 2, 3].map(() => signIn(one, { ip_address: address })));
  const twos = await Promise.all([1, 2].map(() => signIn(two, { ip_address: address })));
  const page = await open();
  await search(page, { user_id: one });
  await finds(page, 3);
  assert(await page.locator("#revoke-selected").isDisabled());
  await page.getByRole("checkbox").first().check();
  await page.locator("#revoke-selected").click();
  assert.match(await confirm(page, "selected"), /^1 session would be revoked/);
  const found = page.locator("#found");
  await eventually(async () => /1 session revoked/.test(await found.textContent()));

  await search(page, { ip: address, status: "live" });
  await finds(page, 4);
  await page.locator("#revoke-matching").click();
  assert.match(await confirm(page, "attack"), /^4 sessions would be revoked/);
  await finds(page, 0);
  for (const session of [...ones, ...twos]) {
    assert.equal((await inspect(session)).status, "revoked");
  }

  const three = await signIn(two);
  await search(page, { user_id: two });
  await page.locator("#revoke-user").click();
  assert.match(await confirm(page, "left"), /^1 session would be revoked/);
  await eventually(async () => (await inspect(three)).revoked_reason === "left");
  await search(page, {});
  await page.locator("#revoke-matching").click();
  await eventually(() => page.locator("#error").textContent());
  assert.match(await page.locator("#error").textContent(), /Search for something first/);
  await close(page);
});

test("sign-ins and revocations show as they happen", async () => {
  const page = await open();
  await eventually(() => page.locator("#live-status").textContent());
  const session = await signIn(newUser());
  await page.locator("#live li", { hasText: session.id }).waitFor();
  await service("DELETE", `/service/v1/sessions/${session.id}`, { reason: "watched" });
  await page.locator("#live li", { hasText: "watched" }).waitFor();
  await page.locator("#live button").first().click();
  await page.locator("#story").waitFor();
  await eventually(async () => /Ready/.test(await page.locator("#health").textContent()));
  const nodes = page.locator("#nodes tr");
  await nodes.first().waitFor();
  assert.equal(await nodes.count(), 1, "a SQLite file has one node");
  assert.match(await nodes.first().textContent(), /ready.*near \d+ %, redis \d+ %.*\d+ ms/);
  await close(page);
});

test("all users are signed out only with the typed word", async () => {
  const session = await signIn(newUser());
  const page = await open();
  await page.locator("#rows tr").first().waitFor();
  await page.locator("#revoke-all").click();
  await page.getByRole("dialog").waitFor();
  await page.locator("#word").fill("All users");
  assert(await page.locator("#confirm").isDisabled());
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await inspect(session)).status, "live");
  await page.locator("#revoke-all").click();
  await confirm(page, "breach", "all users");
  await eventually(async () => (await inspect(session)).revoked_reason === "breach");
  await close(page);
});

test("the picture of the console", async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  const page = await open(DEMO_KEY, DEMO_SERVICE_URL);
  await page.locator("#rows tr").nth(20).waitFor();
  await page.locator("#live li").nth(2).waitFor({ timeout: 60_000 });
  await checkAccessibility(page);
  await page.screenshot({ path: join(SCREENSHOTS, "console.png") });
  await close(page);
});
