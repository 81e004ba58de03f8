// Durable channels: the slot, how far it is behind, and what keeps the write-ahead log.

import { h, replace, table, facts, badge } from "../dom.js";
import { bytes, seconds, shown } from "../format.js";
import { watch } from "../stream.js";

export function durable(place, _, fail) {
  const state = h("section", { "aria-label": "State" });
  place.append(h("h1", null, "Durable channels"), state);
  return watch({ view: "durable" }, (d) => replace(state, shownAll(d)), fail);
}

function shownAll(d) {
  const here = d.State === "publishing";
  return [
    h("p", { class: "big" }, !d.Durable ? badge("off", "no channel is durable") : d.DurableState ? badge("bad", d.DurableState) : here ? badge("good", "read here") : badge("off", "another replica reads")),
    d.Durable && here ? facts([["Not confirmed", bytes(d.LagBytes)], ["The oldest of it", seconds(d.LagMS / 1000)]]) : null,
    d.Problem ? h("p", { class: "bad" }, `PostgreSQL tells of no slots: ${d.Problem}`) : null,
    table("What keeps the write-ahead log", ["Slot", "Kind", "Database", "Read by", "Files", "Keeps", "Not confirmed", "Until it is lost"],
      (d.Slots ?? []).map((s) => [
        s.Own ? h("strong", null, `${shown(s.Name)} (pgbridge's)`) : shown(s.Name), s.Kind, s.Database || "–",
        s.Active ? badge("good", `PID ${s.PID}`) : badge("warn", "nobody"), badge(s.Status === "reserved" ? "good" : s.Status === "extended" ? "warn" : "bad", s.Status || "none"),
        bytes(s.KeptBytes), s.Kind === "logical" ? bytes(s.UnconfirmedBytes) : "–", s.SafeBytes < 0 ? "no limit" : bytes(s.SafeBytes)]),
      "There are no replication slots."),
  ];
}
