// Asks for a copy in the wrong direction.

import { open } from "../connect.js";

const { nc, pg } = await open();
await pg.copyOut("import_orders").catch((err) => console.log(`nothing was copied: ${err}`));
await pg.copyIn("export_orders", { customer: null }).catch((err) => console.log(`nothing was copied: ${err}`));
await nc.close();
