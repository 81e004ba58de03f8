// Elements, made of text only: nothing here reads HTML.

const make = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
};

/** h makes an element with attributes, listeners (onclick: f) and children. */
export const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);

/** s makes the same of SVG. */
export const s = (tag, attributes, ...children) =>
  make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/**
 * replace gives an element other children. What is there already is changed where it
 * differs and stays otherwise, with its focus, its place and what is selected in it.
 */
export function replace(element, ...children) {
  patchChildren(element, make(element.cloneNode(false), null, children));
}

function patchChildren(before, after) {
  const kept = [...before.childNodes], next = [...after.childNodes];
  next.forEach((node, i) => (kept[i] ? patch(kept[i], node) : before.append(node)));
  for (const node of kept.slice(next.length)) node.remove();
}

function patch(before, after) {
  if (before.isEqualNode(after)) return;
  if (before.nodeName !== after.nodeName) return before.replaceWith(after);
  if (before.nodeType === Node.TEXT_NODE) { before.data = after.data; return undefined; }
  for (const { name } of [...before.attributes]) if (!after.hasAttribute(name)) before.removeAttribute(name);
  for (const { name, value } of after.attributes) if (before.getAttribute(name) !== value) before.setAttribute(name, value);
  return patchChildren(before, after);
}

/** table makes a table with a caption; cells are text or nodes. */
export const table = (caption, heads, rows, empty = "None.") =>
  rows.length === 0
    ? h("div", { class: "block" }, h("p", { class: "caption" }, caption), h("p", { class: "quiet" }, empty))
    : h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
        h("table", null,
          h("caption", null, caption),
          h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
          h("tbody", null, rows.map((row) => h("tr", null, row.map((cell) => h("td", null, cell)))))));

/** facts makes a list of names and values. */
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) =>
    h("div", null, h("dt", null, name), h("dd", null, value))));

const signs = { good: "✓", warn: "!", bad: "✗", off: "–" };

/** badge says how something is, in a colour, a sign and a word. */
export const badge = (state, word) =>
  h("span", { class: `badge ${state}` }, h("span", { "aria-hidden": "true" }, signs[state]), " ", word);
