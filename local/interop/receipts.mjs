// Checks receipts with jose as a game's backend would: on standard input the public keys, the secret and the tokens, on standard output what became of each.
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from "jose";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { jwks, secret, tokens } = JSON.parse(Buffer.concat(chunks).toString("utf8"));

const publicKeys = createLocalJWKSet(jwks);
const secretKey = new TextEncoder().encode(secret);

const verdicts = [];
for (const token of tokens) {
  try {
    const { alg } = decodeProtectedHeader(token);
    const { payload, protectedHeader } = await jwtVerify(token, alg === "HS256" ? secretKey : publicKeys, {
      algorithms: ["HS256", "EdDSA"],
      typ: "liveops-receipt+jwt",
    });
    verdicts.push({ valid: true, algorithm: protectedHeader.alg, key_id: protectedHeader.kid, claims: payload });
  } catch (error) {
    verdicts.push({ valid: false, reason: error.code ?? error.message });
  }
}
process.stdout.write(JSON.stringify(verdicts));
