// Lints the OpenAPI file that is named, with the recommended rules of Redocly: prints each problem,
// and exits with 1 if there are any.

import { createConfig, lint } from "@redocly/openapi-core";

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node lint-api.mjs <file>");
  process.exit(2);
}
const problems = await lint({ ref: file, config: await createConfig("extends: [recommended]") });
for (const { severity, ruleId, message, location } of problems) {
  console.error(`${severity} ${ruleId} at ${location[0]?.pointer}: ${message}`);
}
process.exitCode = problems.length > 0 ? 1 : 0;
