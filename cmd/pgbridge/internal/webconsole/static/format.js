// Figures as people read them.

const nobody = (time) => !time || time.startsWith("0001-");

export const count = (n) => Number(n ?? 0).toLocaleString("en");

export function bytes(n) {
  if (n < 0) return "unknown";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
  return `${unit === 0 ? n : n.toFixed(n < 10 ? 1 : 0)} ${units[unit]}`;
}

export function rate(n) {
  if (n === undefined || n === null) return "–";
  return `${n < 10 && n !== 0 ? n.toFixed(1) : Math.round(n).toLocaleString("en")}/s`;
}

/** seconds is a duration, from seconds. */
export function seconds(n) {
  if (n === undefined || n === null || n < 0) return "–";
  if (n < 0.001) return `${Math.round(n * 1e6)} µs`;
  if (n < 1) return `${(n * 1000).toFixed(n < 0.01 ? 1 : 0)} ms`;
  if (n < 60) return `${n.toFixed(n < 10 ? 1 : 0)} s`;
  if (n < 3600) return `${Math.floor(n / 60)} min ${Math.round(n % 60)} s`;
  return `${Math.floor(n / 3600)} h ${Math.round((n % 3600) / 60)} min`;
}

/** nanos is a duration, from Go's nanoseconds. */
export const nanos = (n) => seconds(n / 1e9);

/** ago is how long before now a time was. */
export const ago = (time, now) => (nobody(time) ? "never" : `${seconds(Math.max(0, (Date.parse(now) - Date.parse(time)) / 1000))} ago`);

/** age is the same without "ago". */
export const age = (time, now) => (nobody(time) ? "–" : seconds(Math.max(0, (Date.parse(now) - Date.parse(time)) / 1000)));

/** left is how long after now a time will be. */
export const left = (time, now) => (nobody(time) ? "–" : seconds(Math.max(0, (Date.parse(time) - Date.parse(now)) / 1000)));

export const moment = (time) => (nobody(time) ? "unknown" : `${time.slice(0, 10)} ${time.slice(11, 19)} UTC`);

export const unset = nobody;

/** shown is a name that people can see, whatever it is. */
export const shown = (name) => (name === "" ? "(empty)" : name.replace(/[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, "�"));
