// The page: which view is shown, by what stands behind the # of its address.

import { h, replace } from "./dom.js";
import { overview } from "./views/overview.js";
import { channels, channel } from "./views/channels.js";
import { scripts, script } from "./views/scripts.js";
import { transactions } from "./views/transactions.js";
import { jobs } from "./views/jobs.js";
import { durable } from "./views/durable.js";

const main = document.getElementById("main");
const views = { overview, channels, scripts, transactions, jobs, durable };
const single = { channels: channel, scripts: script };
let leave = () => {};

function decode(word) {
  try { return decodeURIComponent(word); } catch { return word; }
}

function show() {
  if (location.hash && !location.hash.startsWith("#/")) return; // a link within the page
  const [name, ...rest] = location.hash.slice(2).split("/");
  const chosen = views[name] ? name : "overview";
  const argument = rest.length > 0 ? decode(rest.join("/")) : undefined;
  const view = argument !== undefined && single[chosen] ? single[chosen] : views[chosen];
  leave();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `pgbridge: ${argument ?? chosen}`;
  const place = h("div", { class: "view", "data-view": chosen });
  main.replaceChildren(place);
  leave = view(place, argument, (reason) => replace(place, h("p", { class: "bad", role: "alert" }, reason)));
}

addEventListener("hashchange", () => { show(); main.focus(); });
show();
