// A list of any length, of which the server sends the part that is seen.

import { h } from "./dom.js";
import { count } from "./format.js";
import { watch } from "./stream.js";

const rowHeight = 36; // px, as the style sheet has it
const spare = 20;     // rows beyond each end
const most = 200;     // rows that the server sends at once

/**
 * list shows a view of rows. columns are {title, cell(row, before, seconds)}; sorts are [value, title].
 * It returns what ends it.
 */
export function list(place, { view, label, columns, sorts }) {
  const filter = h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false" });
  const sort = h("select", { id: "sort" }, sorts.map(([value, title]) => h("option", { value }, title)));
  const said = h("p", { class: "quiet", role: "status" });
  const space = h("div", { class: "space", role: "presentation" });
  const body = h("div", { class: "rows", role: "rowgroup", tabindex: "0", "aria-label": label }, space);
  const head = h("div", { role: "rowgroup" }, h("div", { class: "row head", role: "row", "aria-rowindex": 1 },
    columns.map((c) => h("div", { role: "columnheader" }, c.title))));
  const grid = h("div", { class: "list", role: "table", "aria-label": label, "data-columns": columns.length }, head, body);
  place.append(
    h("div", { class: "tools" }, h("label", { for: "filter" }, "Filter by name"), filter, h("label", { for: "sort" }, "Sort by"), sort),
    said, grid);

  let close = () => {}, window = "", before = new Map(), at = 0, timer;

  const draw = (part) => {
    const now = performance.now(), elapsed = (now - at) / 1000, long = elapsed >= 0.8; // else a rate would be a guess
    said.textContent = part.Matched === part.Total ? `${count(part.Total)} in all` : `${count(part.Matched)} of ${count(part.Total)}`;
    grid.setAttribute("aria-rowcount", String(part.Matched + 1));
    space.style.height = `${part.Matched * rowHeight}px`;
    const focused = space.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    space.replaceChildren(...part.Rows.map((row, i) => {
      const one = h("div", { class: "row", role: "row", "aria-rowindex": part.Offset + i + 2 },
        columns.map((c) => h("div", { role: "cell" }, c.cell(row, long ? before.get(row.Name) : undefined, elapsed))));
      one.style.transform = `translateY(${(part.Offset + i) * rowHeight}px)`;
      return one;
    }));
    if (focused) [...space.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus({ preventScroll: true });
    if (!long) return;
    before = new Map(part.Rows.map((row) => [row.Name, row]));
    at = now;
  };

  const look = () => {
    const first = Math.max(0, Math.floor(body.scrollTop / rowHeight) - spare);
    const limit = Math.min(most, Math.ceil(body.clientHeight / rowHeight) + 2 * spare);
    const query = { view, filter: filter.value, sort: sort.value, offset: String(first), limit: String(limit) };
    const next = JSON.stringify(query);
    if (next === window) return;
    window = next;
    close();
    close = watch(query, draw, (reason) => { said.textContent = reason; });
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(look, 120); };
  const anew = () => { body.scrollTop = 0; before = new Map(); soon(); };
  body.addEventListener("scroll", soon, { passive: true });
  filter.addEventListener("input", anew);
  sort.addEventListener("change", anew);
  const sized = new ResizeObserver(soon);
  sized.observe(body);
  look();
  return () => { clearTimeout(timer); sized.disconnect(); close(); };
}

/** per is the rate of a count between two looks, undefined at the first. */
export const per = (now, before, elapsed) => (before === undefined || elapsed <= 0 ? undefined : Math.max(0, now - before) / elapsed);
