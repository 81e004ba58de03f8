// Open transactions, with their cursors and copies, and what each waits for.

import { h, replace, table, badge } from "../dom.js";
import { count, bytes, age, left, shown } from "../format.js";
import { watch } from "../stream.js";

export function transactions(place, _, fail) {
  const state = h("section", { "aria-label": "State" });
  place.append(h("h1", null, "Transactions, cursors, copies"), state);
  return watch({ view: "transactions" }, (t) => replace(state, shownAll(t)), fail);
}

const states = { active: "good", failed: "bad", held: "warn", ended: "off" };

function shownAll(t) {
  const byPID = new Map(t.Transactions.map((one) => [one.PID, one]));
  return [
    h("p", null, `${count(t.Transactions.length)} open. `,
      (t.Pools ?? []).map((p) => `${p.Purpose}: ${p.Used} of ${p.Limit} connections used${p.Waiting ? `, ${p.Waiting} waiting` : ""}. `)),
    t.Problem ? h("p", { class: "bad" }, badge("warn", "PostgreSQL says nothing of their backends"), ` ${t.Problem}`) : null,
    table("Transactions", ["Transaction", "State", "Age", "Ends in", "Script", "Caller", "Backend", "Waits for"],
      t.Transactions.map((one) => [
        one.Key, badge(states[one.State] ?? "off", one.State + (one.Busy ? ", busy" : "")), age(one.Begun, t.Now), left(one.Expires, t.Now),
        one.Script ? h("a", { href: `#/scripts/${encodeURIComponent(one.Script)}` }, shown(one.Script)) : "–", shown(one.Caller || "–"), one.PID, waits(one, byPID)]),
      "No transaction is open."),
    table("Cursors and copies", ["Transaction", "Kind", "Name", "Script", "Age", "Rows", "Bytes", "Progress"],
      t.Transactions.flatMap((one) => one.Work.map((w) => [
        one.Key, w.Kind, shown(w.Name || "–"), shown(w.Script || "–"), age(w.Begun, t.Now), count(w.Rows), bytes(w.Bytes), progress(w)])),
      "None is open."),
  ];
}

function waits(one, byPID) {
  const b = one.Backend;
  if (!b) return "–";
  const blockers = (b.Blockers ?? []).map((pid) => (byPID.has(pid) ? `transaction ${byPID.get(pid).Key}` : `PID ${pid}`));
  if (blockers.length > 0) return badge("bad", `a lock of ${blockers.join(", ")}`);
  return b.WaitType && b.WaitEvent !== "ClientRead" ? `${b.WaitType}: ${b.WaitEvent}` : b.State;
}

function progress(w) {
  const [done, total] = w.TotalRows >= 0 ? [w.Rows, w.TotalRows] : [w.Bytes, w.TotalBytes];
  if (total <= 0) return "total unknown";
  const percent = Math.min(100, Math.round((done / total) * 100));
  return [h("progress", { max: 100, value: percent, "aria-label": `${w.Kind} ${w.Script}` }), ` ${percent} %`];
}
