// Holds liveops.ts to the published vectors: node build/check.js [vectors.json]

import { hkdfSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Client, canonical, canonicalQuery, signature } from "./liveops.js";

interface Vector {
  name: string;
  method: string;
  target: string;
  headers: [string, string][];
  body: string;
  canonical?: string;
  code?: string;
}

interface Vectors {
  keys: { id: string; secrets: string[] }[];
  session_masters: string[];
  sessions: { master: string; key_id: string; secret: string }[];
  vectors: Vector[];
}

const published = fileURLToPath(new URL("../../../../core/signing/testdata/vectors.json", import.meta.url));
const vectors = JSON.parse(readFileSync(process.argv[2] ?? published, "utf8")) as Vectors;
let passed = 0;
let failed = 0;

function check(name: string, holds: boolean): void {
  if (holds) {
    passed++;
  } else {
    failed++;
    console.log(`FAIL ${name}`);
  }
}

/** The secret of a session's key, as the service derives it; a client never does. */
function derive(master: string, keyId: string): string {
  return Buffer.from(hkdfSync("sha256", master, "", `liveops session v1\n${keyId}`, 32)).toString("base64url");
}

for (const session of vectors.sessions) {
  check(`session ${session.key_id}`, derive(session.master, session.key_id) === session.secret);
}

function secretsOf(keyId: string): string[] {
  if (keyId.startsWith("ses.")) {
    return vectors.session_masters.map((master) => derive(master, keyId));
  }
  return vectors.keys.find((key) => key.id === keyId)?.secrets ?? [];
}

for (const vector of vectors.vectors) {
  const header = new Map(vector.headers.map(([name, value]) => [name.toLowerCase(), value]));
  const sent = (header.get("x-liveops-signature") ?? "").split(",").map((one) => one.trim());
  const text = (): string =>
    canonical({
      method: vector.method,
      target: vector.target,
      timestamp: header.get("x-liveops-timestamp") ?? "",
      nonce: header.get("x-liveops-nonce") ?? "",
      idempotencyKey: header.get("idempotency-key"),
      body: Buffer.from(vector.body, "utf8"),
    });
  const matches = (): boolean => secretsOf(header.get("x-liveops-key") ?? "").some((secret) => sent.includes(signature(secret, text())));
  switch (vector.code) {
    case undefined:
      check(vector.name, text() === vector.canonical && matches());
      break;
    case "signature-mismatch":
      check(vector.name, !matches());
      break;
    case "session-expired":
    case "timestamp-out-of-window":
      check(vector.name, matches() === (vector.name !== "wrong time and wrong signature"));
      break;
    case "malformed-request": {
      let refused = false;
      try {
        canonicalQuery(vector.target.split("?")[1] ?? "");
      } catch {
        refused = true;
      }
      check(vector.name, refused);
    }
  }
}

interface Sent {
  method: string;
  url: URL;
  headers: Record<string, string>;
  body: Uint8Array;
}

const secret = vectors.keys[0]!.secrets[0]!;

/** A client of a service that answers as it is told, a number of milliseconds it waits, and what it sent. */
function against(answers: (Response | undefined)[]): { client: Client; sent: Sent[]; waits: number[] } {
  const sent: Sent[] = [];
  const waits: number[] = [];
  const client = new Client(
    "https://example.test",
    { keyId: "studio", secret },
    {
      fetch: async (url, init) => {
        sent.push({ url, body: new Uint8Array(), ...init });
        const answer = answers.shift();
        if (answer === undefined) {
          throw new TypeError("no answer");
        }
        return answer;
      },
      now: () => 1_000_700,
      sleep: async (ms) => waits.push(ms),
    },
  );
  return { client, sent, waits };
}

function told(status: number, value: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers });
}

const late = (): Response => told(401, { code: "timestamp-out-of-window", server_time: 5000 });

{
  const { client, sent, waits } = against([
    late(),
    undefined,
    told(503, { code: "redis-unavailable" }, { "Retry-After": "7" }),
    told(409, { code: "idempotency-in-flight" }),
    told(202, { accepted: 1 }),
  ]);
  const target = "/v1/events?x=Zoë 1&x='a'&b=c+d";
  const { status } = await client.send("POST", target, { name: "Zoë" });
  const all = (name: string): string[] => sent.map((one) => one.headers[name] ?? "");
  check("an answer after trouble", status === 202);
  check("the clock is corrected", all("X-Liveops-Timestamp").join() === "1000,5000,5000,5000,5000");
  check("a new nonce for every try", new Set(all("X-Liveops-Nonce")).size === 5);
  check("one idempotency key for all", new Set(all("Idempotency-Key")).size === 1 && all("Idempotency-Key")[0] !== "");
  check("the same bytes", sent.every((one) => Buffer.from(one.body).toString("utf8") === '{"name":"Zoë"}'));
  check("waits as told", waits.join() === "500,7000,2000");
  for (const one of sent) {
    const text = canonical({
      method: one.method,
      target: one.url.href.slice("https://example.test".length),
      timestamp: one.headers["X-Liveops-Timestamp"] ?? "",
      nonce: one.headers["X-Liveops-Nonce"] ?? "",
      idempotencyKey: one.headers["Idempotency-Key"],
      body: one.body,
    });
    check("every try is signed", one.headers["X-Liveops-Signature"] === signature(secret, text));
  }
}
{
  const { client, sent } = against([late(), late()]);
  const { status } = await client.send("GET", "/v1/players/p");
  check("the clock is corrected once", status === 401 && sent.length === 2);
  check("a read has no idempotency key", sent.every((one) => !("Idempotency-Key" in one.headers)));
}
{
  const { client, sent } = against([told(422, { code: "event-invalid" })]);
  const { status } = await client.send("POST", "/v1/events", {});
  check("what will not help is not tried again", status === 422 && sent.length === 1);
}
{
  const { client, sent } = against([undefined, undefined, undefined, undefined]);
  const outcome = await client.send("GET", "/v1/time").catch(() => "none");
  check("no answer at all", outcome === "none" && sent.length === 4);
}

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
