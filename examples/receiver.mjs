// Receives Postern's callbacks and believes only those that are signed. Node 18+, standard library only.
//
//     PORT=8080 EVENT_NOTIFICATION_SIGNATURE_KEY=... node receiver.mjs
//
// The key may be several, one a line. To change it without a gap: give the receiver both, then Postern the new one, then
// take the old one from the receiver.
//
// Answers 200 for what is proven and printed, 401 for what is not; Postern sends again whatever was not answered with 2xx.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const MAX_BODY = 8 * 1024 * 1024; // twenty events of the largest notification, and room
const MAX_AGE = 5 * 60; // seconds, in both directions: an older callback is a replay
const REMEMBERED = 10_000; // ids; Postern delivers at least once, so the same id can come again

const keys = (process.env.EVENT_NOTIFICATION_SIGNATURE_KEY ?? "").split("\n").filter((key) => key !== "");
if (keys.length === 0) {
  console.error("set EVENT_NOTIFICATION_SIGNATURE_KEY to the key that Postern signs with");
  process.exit(1);
}

/** Compares in time that depends on the lengths alone. */
function same(expected, given) {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function isSigned(key, body, header) {
  return same("sha256=" + createHmac("sha256", key).update(body).digest("base64"), header);
}

/** Whether one of those given is one of those expected. Every pair is compared, so that the time does not tell which. */
const fitsAny = (expected, given) => expected.flatMap((e) => given.map((g) => same(e, g))).includes(true);

/** Whether both signatures are right. `body` must be the bytes as they came: never parse and print them before. */
function isGenuine(headers, body, now) {
  // Cloud Elements' signature covers the body alone.
  const header = headers["elements-webhook-signature"] ?? "";
  if (!keys.map((key) => isSigned(key, body, header)).includes(true)) return false;
  // Standard Webhooks' covers id and time too, which is what stops replays. There is one for each key of Postern's.
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^[0-9]{1,15}$/.test(timestamp) || Math.abs(now - Number(timestamp)) > MAX_AGE) return false;
  const signed = (key) => createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  return fitsAny(keys.map((key) => "v1," + signed(key)), (headers["webhook-signature"] ?? "").split(" "));
}

// The last ids that were handled, oldest first. An app keeps them where it keeps what it did, in one transaction.
const seen = new Set();

function handleOnce(id, handle) {
  if (seen.has(id)) return;
  handle(); // A handler that fails leaves no trace, and the event comes again.
  seen.add(id);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
}

function printEvents(body) {
  const { message } = JSON.parse(body.toString("utf8"));
  for (const event of message.events) {
    // Keys may hold anything, line breaks too: as JSON they stay on one line.
    console.log(event.eventType, event.objectType, JSON.stringify(event.objectId), message.eventId);
  }
}

async function receive(request) {
  if (request.method !== "POST") return 405;
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_BODY) return 413;
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!isGenuine(request.headers, body, Date.now() / 1000)) return 401;
  try {
    handleOnce(request.headers["webhook-id"], () => printEvents(body));
  } catch {
    return 400;
  }
  return 200;
}

const server = createServer((request, response) => {
  receive(request).then(
    (status) => response.writeHead(status, { "Content-Length": 0 }).end(),
    () => response.destroy(), // The body broke off.
  );
});
// Postern is beside the app: nobody else needs to reach this port.
server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
