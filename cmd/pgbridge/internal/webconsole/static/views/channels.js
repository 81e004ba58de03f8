// Channels, what became of their events, and what is missing.

import { h, s, replace, table, facts, badge } from "../dom.js";
import { count, rate, nanos, seconds, ago, moment, shown, bytes, unset } from "../format.js";
import { watch, tail } from "../stream.js";
import { list, per } from "../list.js";

const link = (name) => h("a", { href: `#/channels/${encodeURIComponent(name)}` }, shown(name));

export function channels(place, _, fail) {
  const gaps = h("section", { "aria-label": "Gaps" });
  place.append(h("h1", null, "Channels"));
  const ends = list(place, {
    view: "channels", label: "Channels",
    sorts: [["name", "name"], ["received", "received"], ["published", "published"], ["dropped", "dropped"], ["gaps", "gaps"], ["latest", "last published"], ["latency", "latency"]],
    columns: [
      { title: "Channel", cell: (c) => link(c.Name) },
      { title: "Delivery", cell: (c) => c.Delivery },
      { title: "Received", cell: (c, b, t) => `${count(c.Received)} (${rate(per(c.Received, b?.Received, t))})` },
      { title: "Published", cell: (c) => count(c.Published) },
      { title: "Dropped", cell: (c) => (c.Dropped > 0 ? badge("bad", count(c.Dropped)) : "0") },
      { title: "Gaps", cell: (c) => count(c.Gaps) },
      { title: "Latency", cell: (c) => (c.Published > 0 ? nanos(c.Took) : "–") },
    ],
  });
  place.append(gaps);
  const close = watch({ view: "gaps" }, (g) => replace(gaps, h("h2", null, "Gaps"), timeline(g.Gaps, g.Now), gapTable(g.Gaps)), fail);
  return () => { ends(); close(); };
}

const gapTable = (gaps) => table("The last gaps", ["Channel", "Reason", "From", "Until", "Missing"],
  gaps.slice(0, 50).map((g) => [link(g.Channel), g.Reason, moment(g.Since), moment(g.Until), g.Dropped < 0 ? "unknown" : count(g.Dropped)]),
  "No gap was announced by this replica.");

/** timeline draws when notifications may be missing, from the oldest gap to now. */
function timeline(gaps, now) {
  const end = Date.parse(now), from = (g) => (unset(g.Since) ? Date.parse(g.Until) : Date.parse(g.Since));
  if (gaps.length === 0) return null;
  const start = Math.min(end - 60_000, ...gaps.map(from)), wide = 1000, x = (t) => ((t - start) / (end - start)) * wide;
  return h("figure", null,
    h("figcaption", null, `When notifications may be missing, from ${moment(new Date(start).toISOString())} to now`),
    s("svg", { viewBox: `0 0 ${wide} 24`, class: "timeline", role: "img", "aria-label": `${gaps.length} gaps; the table below has them all` },
      s("line", { x1: 0, y1: 20, x2: wide, y2: 20 }),
      gaps.map((g) => s("rect", { x: x(from(g)).toFixed(1), y: 4, width: Math.max(3, x(Date.parse(g.Until)) - x(from(g))).toFixed(1), height: 14, class: `reason-${g.Reason}` },
        s("title", null, `${shown(g.Channel)}: ${g.Reason}`)))));
}

/** channel is one of them. */
export function channel(place, name, fail) {
  const state = h("section", { "aria-label": "State" }), live = h("section", { "aria-label": "Live events" });
  place.append(h("p", null, h("a", { href: "#/channels" }, "← All channels")), h("h1", { class: "name" }, shown(name)), state, live);
  let stop = () => {}, tailed = false;
  const close = watch({ view: "channel", name }, (c) => {
    replace(state,
      facts([
        ["Subject", c.Subject], ["Delivery", c.Delivery], ["Envelope", c.Envelope], ["Clients may notify", c.Notify ? "yes" : "no"],
        ["Received", count(c.Received)], ["Published", count(c.Published)], ["Dropped", count(c.Dropped)], ["Gaps", count(c.Gaps)],
        ["Last published", ago(c.Latest, c.Now)], ["It took", c.Published > 0 ? nanos(c.Took) : "–"], ...lag(c)]),
      timeline(c.LastGaps ?? [], c.Now), gapTable([...(c.LastGaps ?? [])].reverse()));
    if (!tailed) { tailed = true; stop = follow(live, name, c.Payloads); }
  }, fail);
  return () => { close(); stop(); };
}

/** lag is how far the slot of the durable channels is behind, where this replica reads it. */
const lag = (c) => (c.Delivery !== "durable" ? [] : [["Lag", h("a", { href: "#/durable" },
  c.State === "publishing" ? `${bytes(c.LagBytes)}, ${seconds(c.LagMS / 1000)}` : "known to the replica that publishes")]]);

const keptEvents = 200;

/** follow shows events as they come, where payloads are shown at all. */
function follow(place, name, allowed) {
  place.append(h("h2", null, "Live events"));
  if (!allowed) {
    place.append(h("p", { class: "quiet" }, "Payloads are not shown: the setting console.payloads is off."));
    return () => {};
  }
  const filter = h("input", { type: "search", id: "payload", autocomplete: "off", spellcheck: "false" });
  const button = h("button", { type: "button" }, "Start");
  const said = h("p", { class: "quiet", role: "status" });
  const events = h("ol", { class: "events", tabindex: "0", "aria-label": "Events" });
  place.append(h("div", { class: "tools" }, h("label", { for: "payload" }, "Only with this in the payload"), filter, button), said, events);
  let close, skipped = 0;
  const stop = () => { close?.(); close = undefined; button.textContent = "Start"; };
  const start = () => {
    button.textContent = "Stop";
    close = tail({ channel: name, filter: filter.value }, (t) => {
      skipped += t.Skipped;
      said.textContent = skipped > 0 ? `${count(skipped)} more came too fast to be shown.` : "Listening.";
      events.prepend(...t.Events.reverse().map(event));
      while (events.childElementCount > keptEvents) events.lastElementChild.remove();
    }, (reason) => { said.textContent = reason; stop(); });
  };
  button.addEventListener("click", () => (close ? stop() : start()));
  filter.addEventListener("change", () => { if (close) { stop(); start(); } });
  return stop;
}

const event = (e) => h("li", null,
  h("span", { class: "quiet" }, `${e.At.slice(11, 23)} ${e.Subject} ${bytes(e.Bytes)}${e.Cut ? ", cut" : ""}`),
  h("pre", null, e.Binary ? "(no text)" : e.Payload));
