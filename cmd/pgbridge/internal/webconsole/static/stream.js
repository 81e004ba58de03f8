// What the server sends as it changes.

const api = "/console/api/";
const live = document.getElementById("live");
const again = 3000; // ms

function say(word, state) {
  if (live.textContent === word) return;
  live.textContent = word;
  live.className = state;
}

/** watch calls onState with what a view shows, again whenever that changes, until the function that it returns is called. */
export const watch = (query, onState, onFault) => open("stream", query, { state: onState, fault: onFault });

/** tail calls onEvents with events as they come. */
export const tail = (query, onEvents, onFault) => open("tail", query, { tail: onEvents, fault: onFault });

function open(path, query, handlers) {
  let source, timer, closed = false;
  const connect = () => {
    source = new EventSource(`${api}${path}?${new URLSearchParams(query)}`);
    source.onopen = () => say("Live", "good");
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle?.(JSON.parse(event.data)));
    }
    source.onerror = () => {
      say("Not live: pgbridge cannot be reached, or too many people watch. Trying again.", "bad");
      if (source.readyState !== EventSource.CLOSED || closed) return;
      timer = setTimeout(connect, again);
    };
  };
  connect();
  return () => { closed = true; clearTimeout(timer); source.close(); };
}

/** history returns the samples since a moment, in ms. */
export async function history(since = 0) {
  const answer = await fetch(`${api}history?since=${since}`);
  return answer.ok ? answer.json() : [];
}
