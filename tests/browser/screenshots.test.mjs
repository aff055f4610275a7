// Makes the pictures of the documents, from the demo.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { checkAccessibility, launch } from "./browser.mjs";

const { DEMO_URL, SCREENSHOTS } = process.env;

// Arabic is not among the languages of the element: a page can bring its own texts.
const ARABIC = {
  language: "ar", title: "أجهزتك", current: "هذا الجهاز", signedIn: "تم تسجيل الدخول {ago}",
  active: "نشط {ago}", now: "نشط الآن", signOut: "تسجيل الخروج",
  signOutOf: "تسجيل الخروج من {device}", signOutOthers: "تسجيل الخروج من جميع الأجهزة الأخرى",
  rename: "إعادة تسمية {device}",
};

test("the pictures of the devices page", async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  const browser = await launch();
  const shoot = async (name, options, prepare = () => {}) => {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    await page.goto(`${DEMO_URL}/demo/1`);
    await page.locator("sessiond-devices li").nth(5).waitFor();
    await page.evaluate(prepare, ARABIC);
    await checkAccessibility(page);
    await page.screenshot({ path: join(SCREENSHOTS, `devices-${name}.png`) });
    await context.close();
  };
  const desktop = { width: 900, height: 700 };
  await shoot("desktop", { viewport: desktop });
  await shoot("dark", { viewport: desktop, colorScheme: "dark" });
  const phone = { width: 320, height: 640 };
  await shoot("phone", { viewport: phone, deviceScaleFactor: 2, locale: "de" });
  await shoot("right-to-left", { viewport: desktop }, (texts) => {
    document.documentElement.dir = "rtl";
    document.querySelector("h1").textContent = texts.title;
    document.querySelector("sessiond-devices").texts = texts;
  });
  await browser.close();
});
