/** Servers of tests. */

import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

/** Stops a server after a test, and returns its URL once it listens. */
export async function urlOf(server: Server, context: TestContext): Promise<string> {
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  if (!server.listening) {
    await once(server, "listening");
  }
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Starts a server that responds to everything alike, and returns its URL. */
export function serve(context: TestContext, respond: RequestListener): Promise<string> {
  return urlOf(createServer(respond).listen(0, "127.0.0.1"), context);
}

/** Reads the JSON body of a request. */
export async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request) {
    text += chunk;
  }
  return JSON.parse(text);
}
