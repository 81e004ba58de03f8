// What the examples leave out.

import assert from "node:assert/strict";
import { jetstreamManager } from "@nats-io/jetstream";
import { Client } from "../pgbridge/index.js";
import { channelToken, open } from "./support.js";

const { nc, pg } = await open();

// Runs: errors with what PostgreSQL said, message ids, numbers with every digit.
await assert.rejects(pg.run("account", { idd: 1 }), { code: "invalid_request", outcomeUnknown: false });
await assert.rejects(pg.run("accounts", { id: 1 }), { code: "not_found" });
const order = { source: 1, target: 2, amount: "0.01" };
for (const replayed of [false, true]) assert.equal((await pg.run("transfer", order, { messageId: "js" })).replayed, replayed);
await assert.rejects(pg.run("transfer", { ...order, amount: "1000000" }), (/** @type {any} */ err) => err.code === "sql_error" && err.details.sqlstate === "23514");
const [ada] = (await pg.run("account", { id: 1 })).results[0].rows ?? [];
assert.deepEqual(Object.keys(ada), ["id", "owner", "balance"]);
assert.equal(ada.id, "1");
assert.equal((await pg.run("account", { id: 1 }, { bigNumbers: "number" })).results[0].rows?.[0].id, 1);
assert.equal((await pg.request("describe", "account")).parameters[0].name, "id");
await assert.rejects(new Client(nc, { prefix: "nobody", retries: 0 }).run("account", { id: 1 }), { code: "no_responders", outcomeUnknown: false });

// Cursors: both directions, left early, as a stream, left early too.
const cursor = await pg.cursor("orders.all", {}, { pageRows: 2, scroll: true });
assert.equal((await cursor.fetch()).rows.length, 1); // behind the first page of two
assert.deepEqual((await cursor.fetch("first")).rows[0].customer, "Ada");
assert.equal(await cursor.move("forward", 1), 1);
assert.deepEqual((await cursor.fetch("backward", 10)).rows.map((r) => r.customer), ["Ada"]);
await cursor.close();
for await (const { customer } of await pg.cursor("orders.all", {}, { pageRows: 1 })) {
  assert.equal(customer, "Ada");
  break;
}
const streamed = [];
for await (const { customer } of (await pg.cursor("orders.all", {}, { pageRows: 1 })).stream()) streamed.push(customer);
assert.deepEqual(streamed, ["Ada", "Grace", "Edsger"]);
for (const after of ["Ada", "Grace"]) {
  for await (const { customer } of (await pg.cursor("orders.all", {}, { pageRows: 1 })).stream()) if (customer === after) break;
}

// Transactions: savepoints, a copy within one, nothing of it afterwards.
const tx = await pg.begin({ isolation: "serializable" });
assert.ok((await tx.touch()) > new Date());
await tx.savepoint("before");
await assert.rejects(tx.run("transfer", { ...order, amount: "1000000" }), { code: "sql_error" });
await tx.rollbackTo("before");
const into = await tx.copyIn("import_orders");
const writer = into.stream.getWriter();
await writer.write("customer,total\n");
await writer.write("within,1\n");
await writer.close();
assert.equal((await into.totals).rows, 1);
const text = await new Response(/** @type {any} */ ((await tx.copyOut("export_within")).stream)).text();
assert.equal(text, "within\n");
await tx.rollback();
await tx.rollback(); // it has ended: no error
await assert.rejects(tx.commit(), { code: "gone" });

// A copy that is left, or that its source leaves, rolls back.
const left = await pg.copyOut("export_orders", { customer: null }, { chunkBytes: 10, windowBytes: 10 });
await left.stream.cancel("enough");
await assert.rejects(left.totals, { code: "cancelled", outcomeUnknown: false });
const half = await pg.copyIn("import_orders");
const broken = new ReadableStream({
  start(controller) {
    controller.enqueue("customer,total\nAda,1\n");
    controller.error(new Error("the disk is broken"));
  },
});
await assert.rejects(broken.pipeTo(half.stream), /the disk is broken/);
await assert.rejects(half.totals, { code: "cancelled", outcomeUnknown: false });
const wrong = await pg.copyIn("import_orders");
await assert.rejects(wrong.stream.getWriter().write(/** @type {any} */ ({ customer: "Ada" })), { code: "invalid_request" });
await assert.rejects(wrong.totals, { code: "invalid_request", outcomeUnknown: false });
const buffers = await pg.copyIn("import_orders");
await new ReadableStream({
  start(controller) {
    controller.enqueue(new TextEncoder().encode("customer,total\nbuffer,1\n").buffer);
    controller.close();
  },
}).pipeTo(buffers.stream);
assert.equal((await buffers.totals).rows, 1);
const small = await pg.copyIn("import_orders", {}, { chunkBytes: 7, windowBytes: 20 });
await new Blob(["customer,total\nslow,1\nslow,2\n"]).stream().pipeTo(small.stream);
assert.equal((await small.totals).rows, 2);

// What is dropped is told of where it is missing, and channels have tokens.
const slow = await pg.subscribe({ channels: ["Größe 1.x"], buffer: 10 });
const to = "pgbridge.event." + channelToken("Größe 1.x");
assert.equal(to, "pgbridge.event.Gr%C3%B6%C3%9Fe%201%2Ex");
for (let i = 0; i < 100; i++) nc.publish(to, String(i));
await nc.flush();
const seen = [];
for await (const { channel, text, gap } of slow) {
  seen.push(gap ? `${gap.reason} ${gap.dropped}` : text);
  if (!gap) assert.equal(channel, "Größe 1.x");
  if (gap) nc.publish(to, "next");
  if (text === "next") break;
}
assert.deepEqual(seen, [..."0123456789", "client_slow 90", "next"]);

// The result of a job is found although nobody heard it, and so is a job's error.
const done = await pg.job("transfer", order, { id: "heard" });
await done.wait();
const again = await pg.job("transfer", order, { id: "heard" });
assert.ok(again.duplicate);
assert.equal((await again.wait()).results.length, 3);
await assert.rejects((await pg.job("nothing", {})).wait(), { code: "not_found" });
assert.equal((await (await jetstreamManager(nc)).streams.info("PGBRIDGE_JOBS")).state.messages, 0);

console.log("all of it is as it should be");
await nc.close();
