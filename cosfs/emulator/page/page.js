// The page of the emulator. Everything that a bucket or a client chose reaches the page as text, never as HTML.
import { showBuckets, showObjects } from "./objects.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");
export const status = await call("GET", "status");
let leave = () => {}; // what the view that is shown has to end

// --- building blocks

/** Make an element. Properties that begin with "on" are listeners; children are nodes or text. */
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), guarded(value));
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity));
  return node;
}

/** Wrap a listener: what goes wrong in it is shown. */
function guarded(listener) {
  return async (event) => {
    try {
      await listener(event);
    } catch (error) {
      tell(error.message);
    }
  };
}

export function tell(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

export async function call(method, name, body) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const answer = await fetch(`/_emulator/api/${name}`, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

export function show(...nodes) {
  main.replaceChildren(...nodes);
}

export function section(bar, ...content) {
  return h("section", {}, h("div", { class: "bar" }, ...bar), ...content);
}

export function table(columns, rows) {
  const head = columns.map(([name, kind]) => h("th", { class: kind }, name));
  return h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}

export function row(columns, ...values) {
  return h("tr", {}, values.map((value, index) => h("td", { class: columns[index][1] }, value)));
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = Number(bytes);
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Show something in the dialog, with a title and a way to close it. */
export function showDialog(title, ...content) {
  const dialog = document.getElementById("dialog");
  const close = h("button", { onclick: () => dialog.close() }, "Close");
  dialog.replaceChildren(h("div", { class: "bar" }, h("h2", {}, title), close), ...content);
  if (!dialog.open) dialog.showModal();
  return dialog;
}

function field(label, name, attributes = {}) {
  const input = h("input", { name, ...attributes });
  return h("label", { class: attributes.type === "checkbox" ? "check" : "", "data-field": name }, label, input);
}

// --- requests

const REQUEST_COLUMNS = [
  ["Time", "mono"], ["Method", ""], ["Target", "wide mono"], ["Operation", ""], ["Answer", ""], ["In", "number"],
  ["Out", "number"], ["ms", "number"],
];

async function showRequests() {
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter", oninput: refilter });
  const pause = h("button", { onclick: toggle }, "Pause");
  const clear = h("button", { onclick: reset }, "Reset");
  const lines = table(REQUEST_COLUMNS, []);
  lines.id = "requests";
  const body = lines.tBodies[0];
  const figures = h("div", { class: "figures", id: "figures" });
  const operations = h("div", { class: "chips", id: "operations" });
  show(
    section([h("h2", {}, "Counters"), h("span", { class: "space" }), clear], figures, operations),
    section([h("h2", {}, "Requests"), h("span", { class: "space" }), filter, pause],
      h("div", { class: "live" }, lines)),
  );
  let since = 0;
  let paused = false;
  let last = Promise.resolve(); // of what is done one after the other: two looks at once show lines twice

  function toggle() {
    paused = !paused;
    pause.textContent = paused ? "Continue" : "Pause";
  }
  function wanted(line) {
    return line.textContent.toLowerCase().includes(filter.value.toLowerCase());
  }
  function refilter() {
    for (const line of body.rows) line.hidden = !wanted(line);
  }
  function next(work) {
    last = last.catch(() => {}).then(work);
    return last;
  }
  async function reset() {
    await next(async () => {
      await call("DELETE", "counters");
      body.replaceChildren();
      await update();
    });
  }
  async function update() {
    const [{ requests }, counters] = await Promise.all([
      call("GET", `requests?since=${since}`), call("GET", "counters"),
    ]);
    for (const request of requests) {
      const line = requestRow(request);
      line.hidden = !wanted(line);
      body.prepend(line);
      since = request.number;
    }
    while (body.rows.length > 1000) body.lastChild.remove();
    showCounters(counters, figures, operations);
  }
  await next(update);
  let waiting = false;
  const timer = setInterval(guarded(async () => {
    if (paused || waiting) return;
    waiting = true;
    await next(update).finally(() => { waiting = false; });
  }), 1000);
  leave = () => clearInterval(timer);
}

function requestRow(request) {
  const kind = request.status === 0 || request.status >= 500 ? "bad" : request.status >= 400 ? "warn" : "good";
  const faults = request.faults ? h("span", { class: "soft" }, ` fault: ${request.faults}`) : "";
  const time = new Date(request.time * 1000).toLocaleTimeString("en-GB");
  const answer = request.status ? `${request.status} ${request.code}` : "none";
  const line = row(
    REQUEST_COLUMNS, time, request.method, request.target, request.operation,
    [h("span", { class: kind }, answer), faults], size(request.received), size(request.sent),
    request.ms.toFixed(1),
  );
  line.title = `${request.host}\nclient ${request.client}\nrequest id ${request.request_id}`;
  return line;
}

function showCounters(counters, figures, operations) {
  const errors = Object.entries(counters.errors).map(([code, count]) => `${code} ${count}`).join(", ");
  const figure = (value, name) => h("div", {}, h("b", {}, value), h("span", {}, name));
  figures.replaceChildren(
    figure(String(counters.total), "requests"), figure(size(counters.bytes_received), "received"),
    figure(size(counters.bytes_sent), "sent"), figure(errors || "none", "errors"),
  );
  operations.replaceChildren(...Object.entries(counters.operations).map(
    ([name, count]) => h("span", {}, name, " ", h("b", {}, String(count)))));
}

// --- faults

// Which fields a kind of fault has, besides those of all.
const FAULT_FIELDS = {
  error: ["code", "status", "after"], latency: ["seconds", "jitter"], reset: ["after"], truncate: ["offset"],
  corrupt: ["offset"], stall: ["seconds", "offset"], slow: ["rate"], "stall-request": ["seconds", "offset"],
  stale: ["seconds"], lenient: [],
};
const FAULT_COLUMNS = [
  ["Kind", ""], ["Operation", ""], ["Key", "mono"], ["What", "wide"], ["Strikes", ""], ["Struck", "number"], ["", ""],
];

async function showFaults() {
  const list = h("div", { class: "scroll", id: "faults" });
  const kind = h("select", { name: "kind", onchange: choose });
  kind.append(...Object.keys(status.kinds).map((name) => h("option", {}, name)));
  const explained = h("p", {});
  const number = { type: "number", min: "0", step: "any" };
  const form = h("form", { class: "fields", id: "add-fault", onsubmit: add },
    explained,
    h("label", {}, "Kind", kind),
    field("Operation", "operation", { value: "*", list: "operations" }),
    field("Key", "key", { value: "*" }),
    field("Code", "code", { value: "SlowDown" }),
    field("Status (0: the usual)", "status", { ...number, value: "0", step: "1" }),
    field("Seconds", "seconds", { ...number, value: "1" }),
    field("Jitter", "jitter", { ...number, value: "0" }),
    field("Offset", "offset", { ...number, value: "0", step: "1" }),
    field("Bytes per second", "rate", { ...number, value: "100000", step: "1", min: "1" }),
    field("Count (0: without end)", "count", { ...number, value: "1", step: "1" }),
    field("Every", "every", { ...number, value: "1", step: "1", min: "1" }),
    field("Share", "share", { ...number, value: "1", max: "1" }),
    field("After the work", "after", { type: "checkbox" }),
    h("datalist", { id: "operations" }, ["*", "Get*", "List*", "*Upload*", ...status.operations].map(
      (name) => h("option", { value: name }))),
    h("button", { class: "main" }, "Add fault"),
  );
  const limits = h("form", { class: "fields", onsubmit: limit },
    h("p", {}, "Bytes per second of all bodies, both ways; 0 is no limit."),
    field("A connection", "connection", { ...number, step: "1" }),
    field("All together", "total", { ...number, step: "1" }), h("button", {}, "Limit"));
  const time = h("span", { class: "mono" });
  const clock = h("form", { class: "fields", onsubmit: move },
    h("p", {}, "The time in which objects expire and change class: ", time),
    field("Move by days", "days", { type: "number", step: "any", value: "1" }), h("button", {}, "Move"),
    h("button", { type: "button", onclick: async () => tick(await call("DELETE", "clock")) }, "Real time"));
  show(
    section([h("h2", {}, "Faults"), h("span", { class: "space" }),
      h("button", { class: "danger", onclick: clear }, "Remove all")], list),
    section([h("h2", {}, "Add a fault")], form),
    section([h("h2", {}, "Bandwidth")], limits),
    section([h("h2", {}, "Clock")], clock),
  );

  function choose() {
    explained.textContent = `${kind.value}: ${status.kinds[kind.value]}.`;
    const special = new Set(Object.values(FAULT_FIELDS).flat());
    for (const label of form.querySelectorAll("[data-field]")) {
      const name = label.dataset.field;
      label.hidden = special.has(name) && !FAULT_FIELDS[kind.value].includes(name);
      label.style.display = label.hidden ? "none" : "";
    }
  }
  async function add(event) {
    event.preventDefault();
    const fault = { kind: kind.value };
    for (const label of form.querySelectorAll("[data-field]:not([hidden])")) {
      const input = label.querySelector("input");
      fault[input.name] = input.type === "checkbox" ? input.checked
        : input.type === "number" ? Number(input.value) : input.value;
    }
    await call("POST", "faults", fault);
    tell("");
    await update();
  }
  async function clear() {
    await call("DELETE", "faults");
    await update();
  }
  async function limit(event) {
    event.preventDefault();
    const { connection, total } = limits.elements;
    await call("PUT", "bandwidth", { connection: Number(connection.value), total: Number(total.value) });
    tell("");
  }
  async function move(event) {
    event.preventDefault();
    tick(await call("POST", "clock", { advance: Number(clock.elements.days.value) * 86400 }));
  }
  function tick({ now }) {
    time.textContent = new Date(now * 1000).toUTCString();
  }
  async function update() {
    const { faults } = await call("GET", "faults");
    const rows = faults.map((fault) => row(FAULT_COLUMNS, fault.kind, fault.operation, fault.key, details(fault),
      strikes(fault), String(fault.struck),
      h("button", { class: "danger", onclick: async () => {
        await call("DELETE", `faults/${fault.id}`).catch((error) => tell(error.message));
        await update();
      } }, "Remove")));
    list.replaceChildren(rows.length ? table(FAULT_COLUMNS, rows)
      : h("p", { class: "empty" }, "Nothing goes wrong at present."));
  }
  choose();
  await update();
  const bandwidth = await call("GET", "bandwidth");
  limits.elements.connection.value = bandwidth.connection;
  limits.elements.total.value = bandwidth.total;
  tick(await call("GET", "clock"));
  const timer = setInterval(guarded(update), 2000);
  leave = () => clearInterval(timer);
}

function details(fault) {
  return FAULT_FIELDS[fault.kind].filter((name) => fault[name]).map((name) => `${name} ${fault[name]}`).join(", ");
}

function strikes(fault) {
  const what = fault.share < 1 ? `a share of ${fault.share}` : fault.every > 1 ? `every ${fault.every}th` : "each";
  return fault.count ? `${what}, ${fault.count - fault.struck} to go` : what;
}

// --- where we are

async function route() {
  leave();
  leave = () => {};
  tell("");
  const [, tab, bucket, prefix] = location.hash.split("/").map(decodeURIComponent);
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.dataset.tab === (tab || "buckets"));
  }
  if (tab === "requests") await showRequests();
  else if (tab === "faults") await showFaults();
  else if (bucket) await showObjects(bucket, prefix || "");
  else await showBuckets();
}

document.getElementById("where").textContent =
  `${status.endpoint_url} · ${status.region} · APPID ${status.appid} · ${status.data}`;
window.addEventListener("hashchange", guarded(route));
await guarded(route)();
