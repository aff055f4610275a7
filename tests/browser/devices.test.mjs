// The devices page in a real browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";

import {
  checkAccessibility, eventually, launch, newUser, open, PHONE, publicUrl, service, signIn, status,
} from "./browser.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const rows = (page) => page.locator("sessiond-devices li");
const names = (page) => page.locator("sessiond-devices .name").allTextContents();
const row = (page, name) => rows(page).filter({ hasText: name });
const statusText = (page) => page.locator("sessiond-devices [role=status]").textContent();
const alertText = (page) => page.locator("sessiond-devices [role=alert]").textContent();
const shows = (page, expected) =>
  eventually(async () => (await names(page)).join() === expected.join(), expected);
const focused = (page) =>
  page.evaluate(() => document.activeElement.shadowRoot?.activeElement?.className ?? "");

/** A user with a page open on a Mac, and a phone signed in before that. */
const userWithPage = async (options) => {
  const user = newUser();
  const phone = await signIn(user, PHONE);
  const own = await signIn(user);
  const page = await open(browser, own, options);
  await rows(page).first().waitFor();
  return { user, phone, own, page };
};

const close = async (page) => {
  assert.deepEqual(page.problems, []);
  const isElsewhere = (url) => !url.startsWith(publicUrl) && !url.startsWith("data:");
  const elsewhere = page.requested.filter(isElsewhere);
  assert.deepEqual(elsewhere, [], "nothing is loaded from elsewhere");
  await page.context().close();
};

/** Returns where these elements are. At once: when the list changes, its elements are replaced. */
const boxes = async (page, selector) => {
  const found = await page.locator("sessiond-devices").evaluate((element, selector) => {
    const found = [...element.shadowRoot.querySelectorAll(selector)];
    return found.map((it) => it.getBoundingClientRect().toJSON());
  }, selector);
  assert(found.length > 0, `there is ${selector}`);
  return found;
};

test("this device comes first, with what is known of each", async () => {
  const { page } = await userWithPage();
  await shows(page, ["Chrome on macOS", "Safari on iOS"]);
  assert.match(await rows(page).nth(0).textContent(), /This device.*Berlin, DE.*Active now/);
  assert.match(await rows(page).nth(1).textContent(), /Berlin, DE.*Signed in this minute/);
  assert.equal(await page.locator("sessiond-devices .badge").count(), 1);
  await checkAccessibility(page);
  await close(page);
});

test("two users see their own devices", async () => {
  const [one, two] = [await userWithPage(), await userWithPage()];
  await service("PATCH", `/service/v1/sessions/${one.phone.id}`, { name: "one's phone" });
  await one.page.reload();
  await shows(one.page, ["Chrome on macOS", "one's phone"]);
  await two.page.reload();
  await shows(two.page, ["Chrome on macOS", "Safari on iOS"]);
  await close(one.page);
  await close(two.page);
});

test("a device is renamed in place, and its name is text", async () => {
  const { page, phone } = await userWithPage();
  await row(page, "Safari").getByRole("button", { name: "Rename Safari on iOS" }).click();
  await checkAccessibility(page);
  await page.keyboard.press("Escape");
  assert.equal(await focused(page), "rename", "the focus returns");
  const name = "<img src=x onerror=alert(1)> phone";
  await row(page, "Safari").getByRole("button", { name: "Rename Safari on iOS" }).click();
  await page.keyboard.type(name);
  await page.keyboard.press("Enter");
  await shows(page, ["Chrome on macOS", name]);
  assert.equal(await focused(page), "rename");
  assert.equal((await service("GET", `/service/v1/sessions/${phone.id}`)).name, name);
  assert.match(await row(page, "phone").textContent(), /Safari on iOS/);
  // An empty name removes it.
  await row(page, "phone").getByRole("button", { name: `Rename ${name}` }).click();
  await page.keyboard.press("Delete");
  await page.keyboard.press("Enter");
  await shows(page, ["Chrome on macOS", "Safari on iOS"]);
  await close(page);
});

test("one device is signed out, with the keyboard", async () => {
  const { page, phone, own } = await userWithPage();
  await row(page, "Safari").getByRole("button", { name: "Sign out Safari on iOS" }).focus();
  await page.keyboard.press("Enter");
  await shows(page, ["Chrome on macOS"]);
  assert.equal(await statusText(page), "Safari on iOS is signed out.");
  assert.equal(await status(phone), "revoked");
  assert.equal(await status(own), "live");
  assert.equal(await focused(page), "sign-out", "the focus is not lost with the row");
  await close(page);
});

test("all other devices are signed out, after a confirmation", async () => {
  const { page, user, phone, own } = await userWithPage();
  const third = await signIn(user);
  await shows(page, ["Chrome on macOS", "Chrome on macOS", "Safari on iOS"]);
  const button = page.getByRole("button", { name: "Sign out all other devices" });
  await button.click();
  const dialog = page.getByRole("dialog", { name: "Sign out all other devices" });
  await dialog.waitFor();
  await checkAccessibility(page);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal(await status(phone), "live", "Escape signs nothing out");
  await button.click();
  await dialog.getByRole("button", { name: "Sign out" }).click();
  await shows(page, ["Chrome on macOS"]);
  assert.equal(await statusText(page), "All other devices are signed out.");
  const statuses = [await status(phone), await status(third), await status(own)];
  assert.deepEqual(statuses, ["revoked", "revoked", "live"]);
  assert.equal(await button.isVisible(), false);
  await close(page);
});

test("what happens elsewhere shows by itself", async () => {
  const { page, user, phone } = await userWithPage();
  await shows(page, ["Chrome on macOS", "Safari on iOS"]);
  await service("DELETE", `/service/v1/sessions/${phone.id}`, { reason: "lost" });
  await shows(page, ["Chrome on macOS"]);
  await signIn(user, PHONE);
  await shows(page, ["Chrome on macOS", "Safari on iOS"]);
  await close(page);
});

test("a device that is signed out elsewhere shows nothing any more", async () => {
  const { page, own } = await userWithPage();
  await page.evaluate(() => {
    window.signedOut = 0;
    document.addEventListener("sessiond-signed-out", () => (window.signedOut += 1));
  });
  await service("DELETE", `/service/v1/sessions/${own.id}`, {});
  await shows(page, []);
  assert.equal(await statusText(page), "This device is signed out.");
  assert.equal(await page.evaluate("window.signedOut"), 1);
  await checkAccessibility(page);
  const requested = page.requested.length;
  await page.waitForTimeout(1500);
  assert.equal(page.requested.length, requested, "nothing is asked any more");
  await close(page);
});

test("this device is signed out, and its cookie is removed", async () => {
  const { page, own, phone } = await userWithPage();
  await row(page, "This device").getByRole("button", { name: "Sign out Chrome on macOS" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Sign out" }).click();
  await shows(page, []);
  assert.deepEqual([await status(own), await status(phone)], ["revoked", "live"]);
  assert.deepEqual(await page.context().cookies(), []);
  await page.reload();
  await eventually(async () => (await statusText(page)) === "This device is signed out.");
  await close(page);
});

test("a cut connection is reported, and what happened meanwhile shows afterwards", async () => {
  const { page, phone } = await userWithPage();
  await shows(page, ["Chrome on macOS", "Safari on iOS"]);
  await page.context().setOffline(true);
  await row(page, "Safari").getByRole("button", { name: "Sign out Safari on iOS" }).click();
  await eventually(async () => (await alertText(page)) === "No connection. Trying again…");
  assert.equal(await rows(page).count(), 2, "an outage is not a sign-out");
  assert.equal(await status(phone), "live");
  await checkAccessibility(page);
  await service("DELETE", `/service/v1/sessions/${phone.id}`, {});
  await page.context().setOffline(false);
  await shows(page, ["Chrome on macOS"]);
  assert.equal(await alertText(page), "");
  const isOurs = (problem) => !problem.includes("ERR_INTERNET_DISCONNECTED");
  page.problems = page.problems.filter(isOurs);
  await close(page);
});

test("a thousand sessions are shown page by page", async () => {
  const user = newUser();
  const own = await signIn(user);
  for (let n = 0; n < 40; n += 1) {
    await Promise.all(Array.from({ length: 25 }, () => signIn(user, PHONE)));
  }
  const began = Date.now();
  const page = await open(browser, own);
  await rows(page).nth(50).waitFor();
  const took = Date.now() - began;
  assert.equal(await rows(page).count(), 51, "this device, and a page of others");
  assert.match(await rows(page).first().textContent(), /This device/);
  await page.getByRole("button", { name: "Show more" }).click();
  await rows(page).nth(100).waitFor();
  await page.getByRole("button", { name: "Sign out all other devices" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Sign out" }).click();
  await shows(page, ["Chrome on macOS"]);
  const list = await service("GET", `/service/v1/users/${user}/sessions?active_only=true`);
  assert.equal(list.active_count, 1);
  assert(took < 10_000, `${took} ms to the first page`);
  await close(page);
});

test("on a phone of 320 pixels nothing is cut off", async () => {
  const { page, phone } = await userWithPage({ viewport: { width: 320, height: 640 } });
  const name = "A very long name of a device, with-a-word-that-has-no-end";
  await service("PATCH", `/service/v1/sessions/${phone.id}`, { name: name.slice(0, 64) });
  await page.reload();
  await row(page, "very long").waitFor();
  const overflow = () => page.evaluate("document.documentElement.scrollWidth - innerWidth");
  assert(await overflow() <= 0);
  await row(page, "very long").getByRole("button", { name: /^Rename/ }).click();
  assert(await overflow() <= 0, "nor in the form");
  await page.keyboard.press("Escape");
  for (const { height } of await boxes(page, "li > button")) {
    assert(height >= 40, `a button is ${height} pixels high`);
  }
  await checkAccessibility(page);
  await close(page);
});

test("dark, in every language, and from right to left", async () => {
  const headings = [
    ["en", "Your devices"], ["de-AT", "Ihre Geräte"], ["fr", "Vos appareils"],
    ["es", "Tus dispositivos"], ["ja", "お使いのデバイス"], ["it", "Your devices"],
  ];
  for (const [locale, heading] of headings) {
    const { page } = await userWithPage({ locale, colorScheme: "dark" });
    assert.equal(await page.locator("h1").textContent(), heading);
    assert.equal(await page.locator("sessiond-devices ul").getAttribute("aria-label"), heading);
    const element = page.locator("sessiond-devices");
    const text = await element.evaluate((it) => it.shadowRoot.textContent);
    assert.doesNotMatch(text, /undefined|[{}]/);
    await page.evaluate(() => (document.documentElement.dir = "rtl"));
    const [icon] = await boxes(page, ".icon");
    const [button] = await boxes(page, ".sign-out");
    assert(icon.x > button.x, "the icon is on the right");
    await checkAccessibility(page);
    await close(page);
  }
});

// The example of an application on another origin, which holds a token.
test("an application of another origin shows the element, with a token and its style", async () => {
  const folder = process.env.ACCOUNT_PAGE;
  const server = createServer((request, response) => {
    const name = request.url === "/" ? "account.html" : request.url.slice(1);
    if (!/^account\.(html|js|css)$/.test(name)) return response.end("signed out");
    const types = { html: "text/html", js: "text/javascript", css: "text/css" };
    response.setHeader("content-type", types[name.split(".")[1]]);
    const policy = `default-src 'none'; script-src 'self' ${publicUrl}; style-src 'self'; ` +
      `connect-src ${publicUrl}`;
    response.setHeader("content-security-policy", policy);
    const text = readFileSync(join(folder, name), "utf8");
    response.end(text.replaceAll("https://sessions.example.com", publicUrl));
  });
  after(() => server.close());
  const port = Number(process.env.APP_PORT);
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const user = newUser();
  const phone = await signIn(user, PHONE);
  const own = await signIn(user);
  const context = await browser.newContext();
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") page.problems.push(message.text());
  });
  await page.addInitScript((token) => sessionStorage.setItem("token", token), own.token);
  const origin = `http://127.0.0.1:${port}`;
  await page.goto(origin);
  await shows(page, ["Chrome on macOS", "Safari on iOS"]);
  assert.equal(await page.locator("sessiond-devices h2").textContent(), "Where you are signed in");
  const signOut = page.locator("sessiond-devices .sign-out").first();
  const colour = () => signOut.evaluate((it) => getComputedStyle(it).color);
  await eventually(async () => (await colour()) === "rgb(122, 31, 162)", "the part has its colour");
  await row(page, "Safari").getByRole("button", { name: "Sign out Safari on iOS" }).click();
  await shows(page, ["Chrome on macOS"]);
  assert.equal(await status(phone), "revoked");
  assert.deepEqual(page.problems, []);
  await service("DELETE", `/service/v1/sessions/${own.id}`, {});
  await page.waitForURL(`${origin}/signed-out`);
  await context.close();
});
