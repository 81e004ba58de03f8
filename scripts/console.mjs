// Looks at the console with a real browser. The test that starts it answers what it
// asks for on standard output, a word a line, with "ok" on standard input.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const { CONSOLE_URL: url, CONSOLE_IDLE: idle, CONSOLE_PACKAGES: packages, CONSOLE_BROWSER: executablePath, CONSOLE_PICTURES: pictures, CONSOLE_STRANGER: hostile } = process.env;
const require = createRequire(join(packages, "node_modules/"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const patience = 60_000;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function ask(word) {
  console.log(`ask ${word}`);
  const { value, done } = await lines.next();
  if (done || value !== "ok") throw new Error(`asked for ${word}, was told ${value}`);
}

const faults = [];
function want(what, holds) {
  if (!holds) faults.push(what);
}

mkdirSync(pictures, { recursive: true });
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
const page = await context.newPage();
page.setDefaultTimeout(patience);
let away = false; // the server is, so that requests may fail
page.on("pageerror", (error) => faults.push(`the page threw ${error}`));
page.on("console", (message) => { if (message.type() === "error" && !away) faults.push(`the page says ${message.text()}`); });
page.on("dialog", (dialog) => { faults.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
page.on("request", (request) => { if (![url, ...idle.split(" ")].some((known) => request.url().startsWith(known))) faults.push(`the page asked for ${request.url()}`); });
await page.addInitScript(() => {
  window.pwned = () => { document.title = "pwned"; };
  document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
});

/** accessible runs axe over what is shown. */
async function accessible(what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
  for (const v of violations) faults.push(`${what}: ${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join(" | ")}`);
}

const picture = (name) => page.screenshot({ path: join(pictures, `${name}.png`) });
const view = async (name, heading) => {
  await page.goto(`${url}#/${name}`);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
};
const sees = (text) => page.getByText(text).first().waitFor();

/** harmless holds that a hostile name is text. */
async function harmless(what) {
  want(`${what}: the hostile name is not shown`, (await page.locator("main").textContent()).includes(hostile));
  want(`${what}: the hostile name made an element`, (await page.locator("main img").count()) === 0);
}

/** quiet looks at one that has nothing to show. */
async function quiet(place) {
  await page.goto(`${place}#/overview`);
  await page.getByRole("heading", { name: "Flow" }).waitFor();
  await page.locator(".badge.good", { hasText: "ready" }).first().waitFor();
  await sees("(this one)");
  for (const [name, heading] of [["channels", "Channels"], ["scripts", "Scripts"], ["transactions", "Transactions, cursors, copies"], ["jobs", "Jobs"], ["durable", "Durable channels"]]) {
    await page.goto(`${place}#/${name}`);
    await page.getByRole("heading", { level: 1, name: heading }).waitFor();
    await page.locator("#live.good").waitFor();
    await page.locator("main p:not(.caption)").first().waitFor();
  }
}

async function look() {
  for (const place of idle.split(" ")) await quiet(place);

  // The overview tells that all is well, and how fast.
  await view("overview", "Overview");
  await page.locator(".badge", { hasText: "publishing" }).first().waitFor();
  await page.locator(".node", { hasText: "Listener" }).getByText("listening", { exact: false }).first().waitFor();
  await page.locator("figure canvas").nth(2).waitFor();
  await sees(/Rates: received/);
  await sees("(this one)");
  await page.getByRole("row").filter({ hasText: hostile }).waitFor();
  await harmless("a replica");
  await accessible("overview");
  await picture("overview");

  // Ten thousand channels, of which only those are there that are seen.
  await view("channels", "Channels");
  await sees("10,004 in all");
  const rows = page.locator(".space .row");
  want("too many rows are drawn", (await rows.count()) <= 200);
  await page.locator(".rows").focus();
  await page.keyboard.press("End");
  await page.locator(".space .row", { hasText: "ch09999" }).waitFor();
  want("all rows are drawn at the end", (await rows.count()) <= 200);
  await page.getByLabel("Filter by name").fill(hostile);
  await page.getByText("1 of 10,004").waitFor();
  want("the hostile name is no text", (await page.locator(".space .row").first().textContent()).includes(hostile));
  want("the hostile name made an element", (await page.locator("main img").count()) === 0);
  await page.getByLabel("Filter by name").fill("");
  await page.getByLabel("Sort by").selectOption("received");
  await page.locator(".space .row", { hasText: "orders" }).waitFor(); // by name it is far below
  await page.locator(".timeline rect").first().waitFor();
  await accessible("channels");
  await picture("channels");

  // One of them, with its events, reached by the keyboard.
  await page.getByLabel("Filter by name").fill(hostile);
  await page.getByText("1 of 10,004").waitFor();
  await page.locator(".space .row a").first().focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: hostile }).waitFor();
  await view("channels/orders", "orders");
  await page.getByRole("button", { name: "Start" }).click();
  await page.locator(".events li").first().waitFor();
  want("the payload is not shown", (await page.locator(".events li pre").first().textContent()).includes("customer"));
  await page.getByLabel("Only with this in the payload").fill("<b>");
  await page.keyboard.press("Tab");
  await page.locator(".events li pre", { hasText: "<b>bold</b>" }).first().waitFor();
  want("a payload made an element", (await page.locator(".events b").count()) === 0);
  await accessible("channel");
  await picture("channel");

  // A durable channel tells how far its slot is behind.
  await view("channels/billing", "billing");
  await page.locator("dt", { hasText: "Lag" }).waitFor();
  await page.locator("dd a[href='#/durable']", { hasText: /B, .*s$/ }).waitFor();

  // Scripts, what one is, and the line that runs it.
  await view("scripts", "Scripts");
  await sees("10,005 in all");
  want("too many scripts are drawn", (await rows.count()) <= 200);
  await accessible("scripts");
  await page.getByLabel("Filter by name").fill("divide");
  await page.locator(".space .row", { hasText: "divide" }).locator("a").click();
  await page.getByRole("heading", { level: 1, name: "divide" }).waitFor();
  await sees("SELECT 1 / @by::int AS");
  await harmless("a column");
  await page.getByRole("cell", { name: "int4" }).first().waitFor();
  await page.getByRole("cell", { name: "22012" }).first().waitFor();
  await page.getByLabel("by", { exact: true }).fill("it's");
  await page.getByText(`pgbridge run divide 'by=it'\\''s'`).waitFor();
  await accessible("script");
  await picture("script");

  // Transactions, of which one waits for another, with a cursor and a copy.
  await view("transactions", "Transactions, cursors, copies");
  await page.getByText(/a lock of transaction/).first().waitFor();
  await page.getByRole("cell", { name: hostile }).waitFor();
  await harmless("a caller");
  await page.getByRole("cell", { name: "copy in" }).first().waitFor();
  await page.getByRole("cell", { name: "cursor", exact: true }).waitFor();
  // Part of the object is in: the bar says which.
  const bar = page.getByRole("progressbar", { name: "copy in object" });
  await bar.waitFor();
  await page.waitForFunction((b) => b.value > 0, await bar.elementHandle());
  want("the bar is full, or says another share than the word", (await bar.evaluate((b) => b.value < 100 && b.parentElement.textContent.trim() === `${b.value} %`)));
  // What is looked at stays where it is while the ages go on.
  const linked = page.getByRole("link", { name: "lock" }).first();
  await linked.focus();
  const cell = page.getByRole("table", { name: "Transactions", exact: true }).getByRole("row").nth(1).getByRole("cell").nth(2);
  const then = await cell.textContent();
  await page.waitForFunction(([c, t]) => c.textContent !== t, [await cell.elementHandle(), then]);
  want("what had the focus lost it", await linked.evaluate((a) => a === document.activeElement));
  await accessible("transactions");
  await picture("transactions");

  await view("jobs", "Jobs");
  await page.getByText("taking jobs").waitFor();
  await page.getByRole("cell", { name: "sql_error" }).first().waitFor();
  await page.getByRole("region", { name: "Running here" }).getByRole("cell", { name: "lock" }).waitFor();
  await page.getByText("1 of 8").waitFor();
  const failures = page.getByRole("cell", { name: "sql_error" });
  const failed = await failures.count();
  await ask("job");
  await failures.nth(failed).waitFor();
  await accessible("jobs");
  await picture("jobs");

  await view("durable", "Durable channels");
  await page.getByText("read here").waitFor();
  await page.getByRole("cell", { name: /pgbridge's/ }).waitFor();
  await page.getByText("Not confirmed").first().waitFor();
  await harmless("a database");
  await accessible("durable");
  await picture("durable");
  const forgotten = page.getByRole("row").filter({ hasText: "forgotten" });
  await forgotten.getByText("nobody").waitFor();
  await ask("drop-slot");
  await forgotten.waitFor({ state: "detached" });

  // What was waited for ends, and so does what waited.
  await view("transactions", "Transactions, cursors, copies");
  await page.getByText(/a lock of transaction/).first().waitFor();
  await ask("unlock");
  await page.getByText(/a lock of transaction/).first().waitFor({ state: "detached" });

  // An outage and its end are seen without a reload.
  await view("overview", "Overview");
  await page.locator(".badge.good", { hasText: "ready" }).first().waitFor();
  await ask("nats-stop");
  await page.getByText("Why it is not ready").waitFor();
  await page.getByText(/NATS, events: /).first().waitFor();
  await page.locator(".node.bad", { hasText: "NATS" }).first().waitFor();
  await accessible("outage");
  await picture("outage");
  await ask("nats-start");
  await page.locator(".node.good", { hasText: "NATS" }).first().waitFor();
  await page.getByText("Why it is not ready").waitFor({ state: "detached" });

  // A telephone in the dark.
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 360, height: 740 });
  for (const [name, heading] of [["overview", "Overview"], ["channels", "Channels"], ["scripts/divide", "divide"], ["transactions", "Transactions, cursors, copies"],
    ["scripts", "Scripts"], ["channels/orders", "orders"], ["jobs", "Jobs"], ["durable", "Durable channels"]]) {
    await view(name, heading);
    await page.locator("#live.good").waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    want(`${name} is ${wide} px wide on a screen of 360`, wide <= 360);
    await accessible(`${name}, dark and narrow`);
  }
  await view("overview", "Overview");
  await page.locator(".badge.good", { hasText: "ready" }).first().waitFor();
  await picture("narrow");
  want("something ran the script in a name", !(await page.title()).includes("pwned"));
}

try {
  await look();
} catch (error) {
  faults.push(String(error));
  await picture("failure");
}
await browser.close();
for (const fault of faults) console.log(`fault ${fault}`);
console.log("end");
process.exit(0);
