// Charts of the last quarter of an hour.

import { h } from "./dom.js";

const span = 15 * 60; // s
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const strokes = ["--series-1", "--series-2", "--series-3", "--series-4"];
const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3]]; // so that colours do not tell alone

/** chart makes a figure. Each series has a title, and reads its value from a sample. */
export function chart(title, series, format) {
  const box = h("div", { class: "plot", "aria-hidden": "true" });
  const said = h("figcaption", null, title);
  const figure = h("figure", null, said, box);
  let plot, data = [[]];

  const build = () => {
    plot?.destroy();
    plot = undefined;
    if (!box.isConnected) return;
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, font: "12px system-ui" };
    plot = new uPlot({
      width: Math.max(200, box.clientWidth), height: 150, cursor: { drag: { x: false, y: false } }, legend: { live: false, isolate: false },
      scales: { x: { time: true, range: () => { const now = Date.now() / 1000; return [now - span, now]; } }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 70, values: (_, all) => all.map(format) }],
      series: [{}, ...series.map((one, i) => ({ label: one.title, stroke: colour(strokes[i]), dash: dashes[i], width: 2, points: { show: false } }))],
    }, data, box);
  };

  const sized = new ResizeObserver(() => { if (plot) plot.setSize({ width: Math.max(200, box.clientWidth), height: 150 }); else build(); });
  sized.observe(box);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", build);

  return {
    figure,
    update(samples) {
      data = [samples.map((s) => s.At / 1000), ...series.map((one) => samples.map((s) => { const v = one.of(s); return v < 0 ? null : v; }))];
      const last = samples.at(-1);
      said.textContent = last ? `${title}: ${series.map((one) => `${one.title} ${one.of(last) < 0 ? "–" : format(one.of(last))}`).join(", ")}` : title;
      if (plot) plot.setData(data); else build();
    },
    close() { sized.disconnect(); dark.removeEventListener("change", build); plot?.destroy(); },
  };
}
