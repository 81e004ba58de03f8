// Leaves a transfer that is done once, whatever breaks, and waits for it:
//
//     node job.js transfer-order-78

import { open } from "./connect.js";

const { nc, pg } = await open();
const job = await pg.job("transfer", { source: 1, target: 2, amount: "5" }, { id: process.argv[2] });
console.log(job.duplicate ? "it was left before" : "it is safe");
const { results, attempts } = await job.wait();
console.log(`done: ${results.length} statements, ${attempts} attempts`);
await nc.close();
