// better-auth with PostgreSQL, and Redis as its secondary storage, a process for each processor. Sign-in without a password, so that a
// thousand sign-ins do not take an hour.
// node server.js PORT REDIS_URL POSTGRES_URL
import cluster from "node:cluster";
import { createServer } from "node:http";
import { availableParallelism } from "node:os";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { anonymous } from "better-auth/plugins";
import pg from "pg";
import { createClient } from "redis";

const [port, redisUrl, postgresUrl] = process.argv.slice(2);
const client = createClient({ url: redisUrl });
await client.connect();
const options = {
  baseURL: `http://127.0.0.1:${port}`,
  secret: "a secret of thirty-two characters",
  database: new pg.Pool({ connectionString: postgresUrl, max: 16 }),
  secondaryStorage: {
    get: (key) => client.get(`better-auth:${key}`),
    set: (key, value, ttl) => client.set(`better-auth:${key}`, value, ttl ? { EX: ttl } : undefined),
    delete: async (key) => void (await client.del(`better-auth:${key}`)),
  },
  plugins: [anonymous()],
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
};

if (cluster.isPrimary) {
  const { runMigrations } = await getMigrations(options);
  await runMigrations();
  for (let n = 0; n < availableParallelism(); n++) cluster.fork();
} else {
  const handler = toNodeHandler(betterAuth(options));
  createServer(handler).listen(Number(port), "127.0.0.1");
}
