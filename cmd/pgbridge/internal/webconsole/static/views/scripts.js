// Scripts: what they are, and what became of their requests.

import { h, replace, table, facts, badge } from "../dom.js";
import { count, rate, nanos, ago, moment, shown, unset } from "../format.js";
import { watch } from "../stream.js";
import { list, per } from "../list.js";

const mean = (a) => (a.Requests > 0 ? nanos(a.Took / a.Requests) : "–");

export function scripts(place) {
  place.append(h("h1", null, "Scripts"));
  return list(place, {
    view: "scripts", label: "Scripts",
    sorts: [["name", "name"], ["requests", "requests"], ["failed", "errors"], ["mean", "mean time"], ["longest", "longest time"], ["latest", "last answered"]],
    columns: [
      { title: "Script", cell: (s) => h("a", { href: `#/scripts/${encodeURIComponent(s.Name)}` }, shown(s.Name)) },
      { title: "Kind", cell: (s) => s.Kind + (s.Cursor ? ", cursor" : "") },
      { title: "Requests", cell: (s, b, t) => `${count(s.Answered.Requests)} (${rate(per(s.Answered.Requests, b?.Answered.Requests, t))})` },
      { title: "Errors", cell: (s) => (s.Answered.Failed > 0 ? badge("bad", count(s.Answered.Failed)) : "0") },
      { title: "Mean", cell: (s) => mean(s.Answered) },
      { title: "Longest", cell: (s) => (s.Answered.Requests > 0 ? nanos(s.Answered.Longest) : "–") },
    ],
  });
}

/** script is one of them. */
export function script(place, name, fail) {
  const state = h("section", { "aria-label": "State" }), form = h("section", { "aria-label": "Ask for it" });
  place.append(h("p", null, h("a", { href: "#/scripts" }, "← All scripts")), h("h1", { class: "name" }, shown(name)), state, form);
  let formed = false;
  return watch({ view: "script", name }, (d) => {
    replace(state, described(d), answered(d.Answered));
    if (!formed) { formed = true; asking(form, d); }
  }, fail);
}

const described = (d) => [
  d.Description ? h("p", null, d.Description) : null,
  d.Problem ? h("p", { class: "bad" }, badge("warn", "PostgreSQL does not describe it"), ` ${d.Problem}`) : null,
  h("pre", { class: "source", tabindex: "0", "aria-label": "Text" }, d.Text),
  facts([["Kind", d.Kind + (d.Cursor ? "; it can be opened as a cursor" : "")], ["Settings", (d.Settings ?? []).join("; ") || "none"]]),
  table("Parameters", ["Name", "Type"], (d.Parameters ?? []).map((p) => [p.Name, (p.Types ?? []).join(", ") || "not known before it runs"])),
  table("Columns", ["Name", "Type"], (d.Columns ?? []).map((c) => [c.Name, c.Types.join(", ")])),
];

const answered = (a) => [
  h("h2", null, "Requests"),
  facts([["Answered", count(a.Requests)], ["With an error", count(a.Failed)], ["Mean", mean(a)], ["Longest", a.Requests > 0 ? nanos(a.Longest) : "–"],
    ["Last", unset(a.Latest) ? "never" : moment(a.Latest)]]),
  table("Errors by code", ["Code", "Times"], Object.entries(a.Errors ?? {}).sort((x, y) => y[1] - x[1]).map(([code, n]) => [code, count(n)])),
  table("How long they took", ["At most", "Requests", "Share"], spread(a), "Nothing was asked yet."),
  table("The last errors", ["When", "Code", "SQLSTATE"], [...(a.Last ?? [])].reverse().map((e) => [moment(e.At), e.Code, e.SQLState || "–"])),
];

/** spread lists how many requests took how long, leaving out what is empty at both ends. */
function spread(a) {
  const own = a.Counts.map((n, i) => n - (i > 0 ? a.Counts[i - 1] : 0));
  const rows = own.map((n, i) => [`${nanos(a.Bounds[i])}`, n]);
  rows.push(["longer", a.Requests - (a.Counts.at(-1) ?? 0)]);
  const first = rows.findIndex(([, n]) => n > 0), last = rows.findLastIndex(([, n]) => n > 0);
  if (first < 0) return [];
  return rows.slice(first, last + 1).map(([bound, n]) => [bound, count(n),
    h("meter", { min: 0, max: a.Requests, value: n, "aria-label": `${bound}: ${n} of ${a.Requests}` })]);
}

const quoted = (text) => (/^[A-Za-z0-9_.,:@%+\/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** asking makes the command and the request to paste. Nothing is sent from here. */
function asking(place, d) {
  const parameters = d.Parameters ?? [];
  const inputs = parameters.map((p) => [p.Name, h("input", { type: "text", id: `p-${p.Name}`, autocomplete: "off", spellcheck: "false" })]);
  const command = h("pre", { tabindex: "0", "aria-label": "Command" }), request = h("pre", { tabindex: "0", "aria-label": "Request" });
  const verb = d.Kind === "run" ? "run" : "copy";
  const subject = `${d.Prefix}.${verb}.${d.Name}`;
  const write = () => {
    const given = inputs.filter(([, input]) => input.value !== "");
    command.textContent = [`pgbridge ${verb}`, quoted(d.Name), ...given.map(([name, input]) => quoted(`${name}=${input.value}`))].join(" ");
    request.textContent = `subject  ${subject}\nbody     ${JSON.stringify({ params: Object.fromEntries(given.map(([name, input]) => [name, input.value])) })}`;
  };
  for (const [, input] of inputs) input.addEventListener("input", write);
  write();
  place.append(h("h2", null, "Ask for it"), h("p", { class: "quiet" }, "This page only reads: paste one of these elsewhere."),
    ...inputs.map(([name, input]) => h("p", { class: "field" }, h("label", { for: `p-${name}` }, name), input)), command, request);
}
