// A receiver of another provider's webhooks, as its package is documented to be used: verify, and upsert one row.
//
// node server.cjs: PROCESSES on PORT of the loopback interface, each with CONNECTIONS to DATABASE_URL.
const cluster = require("node:cluster");
const { createServer } = require("node:http");
const { StripeSync, runMigrations } = require("@supabase/stripe-sync-engine"); // as a module it finds no migrations

const { DATABASE_URL, PORT, SECRET, CONNECTIONS, PROCESSES } = process.env;

async function start() {
  await runMigrations({ databaseUrl: DATABASE_URL, schema: "stripe", logger: console });
  for (let count = 0; count < Number(PROCESSES); count += 1) cluster.fork();
  process.on("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.kill();
    process.exit(0);
  });
}

if (cluster.isPrimary) {
  start();
} else {
  const sync = new StripeSync({
    poolConfig: { connectionString: DATABASE_URL, max: Number(CONNECTIONS) },
    stripeSecretKey: "unused",
    stripeWebhookSecret: SECRET,
  });
  createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", async () => {
      let status = 200;
      try {
        await sync.processWebhook(Buffer.concat(chunks), request.headers["stripe-signature"]);
      } catch (error) {
        status = 500;
        console.error(error);
      }
      response.writeHead(status, { "Content-Type": "application/json", "Content-Length": 2 });
      response.end("{}");
    });
  }).listen(Number(PORT), "127.0.0.1");
}
