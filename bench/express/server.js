// express-session with connect-redis, as their documentation shows them, a process for each processor.
// node server.js PORT REDIS_URL
import cluster from "node:cluster";
import { availableParallelism } from "node:os";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";

const [port, url] = process.argv.slice(2);

if (cluster.isPrimary) {
  for (let n = 0; n < availableParallelism(); n++) cluster.fork();
} else {
  const client = createClient({ url });
  await client.connect();
  const app = express();
  app.disable("x-powered-by");
  app.use(
    session({
      store: new RedisStore({ client, prefix: "express:" }),
      secret: "a secret of thirty-two characters",
      resave: false,
      saveUninitialized: false,
    }),
  );
  app.post("/sign-in", express.json(), (request, response) => {
    request.session.device = request.body;
    response.sendStatus(204);
  });
  app.get("/session", (request, response) => {
    if (request.session.device) response.json(request.session.device);
    else response.sendStatus(401);
  });
  app.listen(Number(port), "127.0.0.1");
}
