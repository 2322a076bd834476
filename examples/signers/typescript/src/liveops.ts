// Signs requests to a LiveOps service. One file to copy, for Node 20 or later, nothing to install.
//
//   const client = new Client("https://liveops.example", { keyId, secret });
//   const { status, answer } = await client.send("POST", "/v1/events", { event_id: … });
//
// docs/signing.md is the scheme.

import { createHash, createHmac, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

export interface Credentials {
  keyId: string;
  secret: string;
}

/** A request as it is sent: the target is the path and the query, percent-encoded. */
export interface SignedParts {
  method: string;
  target: string;
  timestamp: string;
  nonce: string;
  idempotencyKey?: string | undefined;
  body: Uint8Array;
}

/** Decodes the pairs of a query, encodes them again by RFC 3986 and sorts them. It throws what the service would refuse. */
export function canonicalQuery(raw: string): string {
  return raw
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair): [string, string] => {
      const at = pair.indexOf("=");
      return at < 0 ? [recode(pair), ""] : [recode(pair.slice(0, at)), recode(pair.slice(at + 1))];
    })
    .sort(([a, x], [b, y]) => compare(a, b) || compare(x, y))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

/** Orders texts of ASCII byte by byte, which localeCompare does not. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

// Bytes, not characters: an escape may stand for any byte, and decodeURIComponent refuses those that are no UTF-8.
function recode(part: string): string {
  if (/;|%(?![0-9A-Fa-f]{2})/.test(part)) {
    throw new Error("the query has a raw semicolon or a bad percent escape");
  }
  const bytes = Buffer.from(part.replaceAll("+", " "), "utf8");
  let text = "";
  for (let i = 0; i < bytes.length; i++) {
    let byte = bytes[i]!;
    if (byte === 0x25) {
      byte = Number.parseInt(bytes.toString("latin1", i + 1, i + 3), 16);
      i += 2;
    }
    const character = String.fromCharCode(byte);
    text += /[A-Za-z0-9._~-]/.test(character) ? character : "%" + byte.toString(16).toUpperCase().padStart(2, "0");
  }
  return text;
}

/** The text that is signed. */
export function canonical(parts: SignedParts): string {
  const at = parts.target.indexOf("?");
  const path = at < 0 ? parts.target : parts.target.slice(0, at);
  const query = at < 0 ? "" : parts.target.slice(at + 1);
  const digest = createHash("sha256").update(parts.body).digest("hex");
  return ["v1", parts.method, path, canonicalQuery(query), parts.timestamp, parts.nonce, parts.idempotencyKey || "-", digest].join("\n");
}

/** The value of X-Liveops-Signature for a canonical text. */
export function signature(secret: string, text: string): string {
  return "v1=" + createHmac("sha256", secret).update(text, "utf8").digest("base64url");
}

/** The headers of a request that is sent now, in unix seconds. Each call makes a new nonce, so sign every try anew. */
export function sign(
  { keyId, secret }: Credentials,
  request: Omit<SignedParts, "timestamp" | "nonce">,
  now: number,
): Record<string, string> {
  const timestamp = String(now);
  const nonce = token();
  const headers: Record<string, string> = {
    "X-Liveops-Key": keyId,
    "X-Liveops-Timestamp": timestamp,
    "X-Liveops-Nonce": nonce,
    "X-Liveops-Signature": signature(secret, canonical({ ...request, timestamp, nonce })),
  };
  if (request.idempotencyKey) {
    headers["Idempotency-Key"] = request.idempotencyKey;
  }
  return headers;
}

function token(): string {
  return randomBytes(18).toString("base64url");
}

export interface Answer {
  status: number;
  answer: unknown;
}

/** What Client uses of the world outside, to be replaced in tests. */
export interface Surroundings {
  fetch: (url: URL, init: { method: string; headers: Record<string, string>; body?: Uint8Array }) => Promise<Response>;
  now: () => number; // ms
  sleep: (ms: number) => Promise<unknown>;
  tries: number;
}

/** Sends signed requests, and sends them again while that may help. */
export class Client {
  readonly #base: string;
  readonly #credentials: Credentials;
  readonly #around: Surroundings;
  #offset = 0; // seconds that the service's clock is ahead of ours

  constructor(base: string, credentials: Credentials, around: Partial<Surroundings> = {}) {
    this.#base = base;
    this.#credentials = credentials;
    this.#around = {
      fetch: (url, init) => fetch(url, { ...init, redirect: "error", signal: AbortSignal.timeout(15_000) } as RequestInit),
      now: Date.now,
      sleep,
      tries: 4,
      ...around,
    };
  }

  /**
   * Gives the status and the answer. A request that changes something gets an idempotency key if it has none; to try it again
   * later, after an exception too, send it with the same one.
   */
  async send(method: string, target: string, value?: unknown, idempotencyKey?: string): Promise<Answer> {
    const url = new URL(target, this.#base);
    const body = Buffer.from(value === undefined ? "" : JSON.stringify(value), "utf8");
    const request = {
      method,
      target: url.pathname + url.search, // as fetch sends it
      idempotencyKey: idempotencyKey ?? (method === "GET" ? undefined : token()),
      body,
    };
    let corrected = false;
    for (let tried = 0; ; ) {
      const headers = sign(this.#credentials, request, this.#seconds() + this.#offset);
      headers["Content-Type"] = "application/json";
      let response: Response;
      let answer: any;
      try {
        response = await this.#around.fetch(url, body.length > 0 ? { method, headers, body } : { method, headers });
        answer = parse(await response.text());
      } catch (trouble) {
        if (++tried >= this.#around.tries) {
          throw trouble;
        }
        await this.#around.sleep(backoff(tried));
        continue;
      }
      if (response.status === 401 && answer?.code === "timestamp-out-of-window" && !corrected) {
        corrected = true; // once: a second refusal is not the clock's fault
        this.#offset = answer.server_time - this.#seconds();
        continue;
      }
      const later = response.status === 429 || response.status === 503 || answer?.code === "idempotency-in-flight";
      if (!later || ++tried >= this.#around.tries) {
        return { status: response.status, answer };
      }
      const told = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
      await this.#around.sleep(Number.isNaN(told) ? backoff(tried) : told * 1000);
    }
  }

  #seconds(): number {
    return Math.floor(this.#around.now() / 1000);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // nothing, or a proxy's page
  }
}

function backoff(tried: number): number {
  return 250 * 2 ** tried;
}
