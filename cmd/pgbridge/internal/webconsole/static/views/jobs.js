// Jobs: what waits, what runs, and what came of the last.

import { h, replace, table, facts, badge } from "../dom.js";
import { count, age, nanos, ago, moment, shown } from "../format.js";
import { watch } from "../stream.js";

const outcomes = { done: "good", failed: "bad", retried: "warn", waiting: "off" };

export function jobs(place, _, fail) {
  const state = h("section", { "aria-label": "State" });
  place.append(h("h1", null, "Jobs"), state);
  return watch({ view: "jobs" }, (j) => replace(state, j.Jobs ? shownAll(j) : h("p", null, "Jobs are not taken here: the setting jobs is off.")), fail);
}

function shownAll({ Jobs: j, Now: now, Problem: problem }) {
  return [
    h("p", { class: "big" }, j.Problem ? badge("bad", j.Problem) : badge("good", "taking jobs")),
    facts([
      ["Waiting, all replicas", problem ? `unknown: ${problem}` : count(j.Waiting)], ["Under way or to be tried again, all replicas", problem ? "unknown" : count(j.UnderWay)],
      ["Delivered before", problem ? "unknown" : count(j.Again)], ["The oldest", problem ? "unknown" : ago(j.Oldest, now)],
      ["Running here", `${(j.Running ?? []).length} of ${j.Limit}`],
      ["Deliveries here", Object.entries(j.Outcomes ?? {}).map(([word, n]) => `${word} ${count(n)}`).join(", ") || "none"]]),
    table("Running here", ["Script", "Kind", "Age", "Delivery"], (j.Running ?? []).map((one) => [shown(one.Script), one.Kind, age(one.Begun, now), one.Attempt])),
    table("The last results here", ["When", "Script", "Outcome", "Error", "Attempt", "Took"], [...(j.Ended ?? [])].reverse().map((one) => [
      moment(one.Ended), shown(one.Script), badge(outcomes[one.Outcome] ?? "off", one.Outcome), one.Code || "–", one.Attempt, nanos(one.Took)])),
  ];
}
