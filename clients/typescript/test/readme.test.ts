/** What README.md shows is compiled. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

test("the sample of the README is the one that is compiled", () => {
  const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
  const [, block = ""] = read("README.md").split("```ts\n// clients/typescript/test/sample.ts\n");
  const [sample = ""] = block.split("```");
  assert.notEqual(sample, "");
  assert.ok(read("test/sample.ts").endsWith(`\n\n${sample}`), sample);
});
