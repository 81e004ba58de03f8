// Everything in short: what is slow or full is seen at a glance.

import { h, replace, badge, table, facts } from "../dom.js";
import { count, bytes, rate, seconds, nanos, age, shown } from "../format.js";
import { watch, history } from "../stream.js";
import { chart } from "../chart.js";

const kept = 180;

export function overview(place) {
  const state = h("section", { "aria-label": "State" });
  const flow = h("section", { "aria-label": "Flow" });
  const rest = h("section", { "aria-label": "Replicas and servers" });
  const charts = [
    chart("Rates", [
      { title: "received", of: (s) => s.Received }, { title: "published", of: (s) => s.Published },
      { title: "dropped", of: (s) => s.Dropped }, { title: "requests", of: (s) => s.Requests }], rate),
    chart("Latency", [
      { title: "publish p50", of: (s) => s.PublishP50 }, { title: "publish p99", of: (s) => s.PublishP99 },
      { title: "request p50", of: (s) => s.RequestP50 }, { title: "request p99", of: (s) => s.RequestP99 }], seconds),
    chart("Queue", [{ title: "waiting for NATS", of: (s) => s.Queue }, { title: "write-ahead log not confirmed", of: (s) => s.Lag }], bytes),
  ];
  const figures = h("section", { class: "charts", "aria-label": "The last 15 minutes" }, charts.map((c) => c.figure));
  place.append(h("h1", null, "Overview"), state, flow, h("h2", null, "The last 15 minutes"), figures, rest);

  let samples = [], before, loaded = false;
  const redraw = () => charts.forEach((c) => c.update(samples));
  const add = (more) => {
    const last = samples.at(-1)?.At ?? 0;
    const later = more.filter((s) => s.At > last);
    if (later.length === 0) return;
    samples = [...samples, ...later].slice(-kept);
    redraw();
  };
  history().then(add).catch(() => {}).then(() => { loaded = true; redraw(); });

  const close = watch({ view: "overview" }, (o) => {
    replace(state, states(o));
    replace(flow, h("h2", null, "Flow"), lanes(o, between(before, o)));
    replace(rest, replicas(o), servers(o));
    if (loaded && o.Latest) add([o.Latest]);
    before = o;
  }, (reason) => replace(state, h("p", { class: "bad", role: "alert" }, reason)));
  return () => { close(); charts.forEach((c) => c.close()); };
}

function between(before, o) {
  const elapsed = before ? (Date.parse(o.Now) - Date.parse(before.Now)) / 1000 : 0;
  const per = (of) => (elapsed > 0 ? Math.max(0, of(o) - of(before)) / elapsed : undefined);
  return {
    received: per((x) => x.Bridge.Total.Received), published: per((x) => x.Bridge.Total.Published),
    requests: o.Runner && before?.Runner ? per((x) => x.Runner.Answered.Requests) : undefined,
  };
}

function states(o) {
  const ready = o.Problems.length === 0;
  return [
    h("p", { class: "big" },
      ready ? badge("good", "ready") : badge("bad", "not ready"), " ",
      badge(o.Bridge.state === "publishing" ? "good" : o.Bridge.state === "standby" ? "off" : "warn", o.Bridge.state),
      " ", h("span", { class: "quiet" }, `replica ${o.Bridge.replica}, version ${o.Version}`)),
    ready ? null : h("div", { class: "problems", role: "alert" }, h("h2", null, "Why it is not ready"), h("ul", null, o.Problems.map((p) => h("li", null, p)))),
  ];
}

const node = (title, state, word, lines) =>
  h("li", { class: `node ${state}` }, h("h4", null, title), badge(state, word), lines.filter(Boolean).map((line) => h("p", null, line)));
const arrow = (label) => h("li", { class: "arrow" }, h("span", { "aria-hidden": "true" }, "→"), label ? h("span", null, label) : null);
const connected = (nats) => (nats.Status === "CONNECTED" ? ["good", "connected"] : ["bad", nats.Status.toLowerCase()]);
const full = (share) => (share >= 0.9 ? ["bad", "full"] : share >= 0.5 ? ["warn", "filling"] : ["good", "has room"]);
const lane = (title, ...items) => h("div", { class: "lane" }, h("h3", null, title), h("ol", null, items));

function lanes(o, rates) {
  const b = o.Bridge, queued = Object.values(b.queue_bytes ?? {}).reduce((sum, n) => sum + n, 0);
  const fullest = Math.max(0, ...Object.values(b.queue_bytes ?? {})) / b.QueueLimit;
  const dropping = Object.values(b.Dropping ?? {}).some(Boolean);
  const usage = b.Usage < 0 ? ["off", "unknown"] : full(b.Usage * 2);
  const all = [lane("Notifications",
    node("PostgreSQL", b.Listening ? usage[0] : "bad", b.Listening ? usage[1] : "no marker", [b.Database.split("/").at(-1), b.Usage < 0 ? null : `its queue is ${(b.Usage * 100).toFixed(1)} % full`]),
    arrow(rate(rates.received)),
    node("Listener", !b.Listening ? "bad" : b.Paused ? "warn" : "good", !b.Listening ? "not listening" : b.Paused ? "paused" : "listening",
      [`${count(b.channels)} channels`, b.Connects > 1 ? `${count(b.Connects - 1)} reconnects` : null]),
    arrow(),
    node("Queue", ...(dropping ? ["bad", "dropping"] : full(fullest)), [`${bytes(queued)} of ${bytes(b.QueueLimit)}`, `${count(b.Total.Dropped)} dropped, ${count(b.Total.Gaps)} gaps`]),
    arrow(rate(rates.published)),
    node("NATS", ...connected(b.Events), [b.Events.Server, o.Latest && o.Latest.PublishP99 >= 0 ? `p99 ${seconds(o.Latest.PublishP99)}` : null]))];
  if (b.Durable) {
    const state = b.DurableState ? ["bad", "not working"] : b.state === "publishing" ? ["good", "read here"] : ["off", "read elsewhere"];
    all.push(lane("Durable",
      node("Slot", ...state, [b.DurableState, `${bytes(b.LagBytes)}, ${nanos(b.LagTime)} behind`]), arrow(),
      node("Stream", ...connected(b.Events), [])));
  }
  if (o.Runner) all.push(requests(o, rates));
  return all;
}

function requests(o, rates) {
  const r = o.Runner, failed = r.Answered.Failed, pools = r.Pools ?? [];
  return lane("Requests",
    node("Requests", ...connected(o.Bridge.Requests), [`${count(r.Answered.Requests)} answered`, `${count(failed)} with an error`, `${bytes(r.MemoryUsed)} of ${bytes(r.MemoryLimit)} held`]),
    arrow(rate(rates.requests)),
    pools.map((p) => node(`Pool ${p.Purpose}`, ...(p.Waiting > 0 ? ["bad", `${p.Waiting} waiting`] : full(p.Used / p.Limit)), [`${p.Used} used, ${p.Idle} idle of ${p.Limit}`])),
    pools.length === 0 ? node("Pools", "off", "not open yet", []) : null,
    arrow(),
    node("PostgreSQL", pools.length > 0 && !o.Problems.some((p) => p.startsWith("PostgreSQL, requests")) ? "good" : "bad",
      o.Problems.some((p) => p.startsWith("PostgreSQL, requests")) ? "not answering" : "answers",
      [`${count((r.Transactions ?? []).length)} transactions open`]));
}

const replicas = (o) => table("Replicas", ["Replica", "State", "Ready", "Version", "Runs for", "Queue", "Transactions"],
  o.Replicas.map((r) => [
    shown(r.Replica) + (r.Replica === o.Bridge.replica ? " (this one)" : ""), shown(r.State),
    r.Problems.length === 0 ? badge("good", "ready") : badge("bad", shown(r.Problems.join("; "))), shown(r.Version), age(r.StartedAt, o.Now), bytes(r.Queue), count(r.Transactions)]),
  "No replica has answered: NATS is away, or does not let pgbridge ask.");

const servers = (o) => h("section", { class: "block" }, h("h3", null, "Servers"), facts([
  ["PostgreSQL", o.Bridge.Database || "not connected"],
  ["NATS, events", `${o.Bridge.Events.Status.toLowerCase()} ${o.Bridge.Events.Server} ${o.Bridge.Events.Version}, ${count(o.Bridge.Events.Reconnects)} reconnects`],
  ["NATS, requests", `${o.Bridge.Requests.Status.toLowerCase()} ${o.Bridge.Requests.Server} ${o.Bridge.Requests.Version}, ${count(o.Bridge.Requests.Reconnects)} reconnects`],
  ["Prefix", o.Prefix]]));
