// Buckets and objects, through the emulator's own COS API: /_emulator/cos asks as the owner, without a signature.
import { call, h, row, section, show, showDialog, size, table, tell } from "./page.js";

const PREVIEW = 64 * 1024;

function address(bucket, key, query = {}) {
  const parameters = new URLSearchParams({ ...(bucket && { bucket }), ...(key && { key }), ...query });
  return `/_emulator/cos?${parameters}`;
}

/** Ask COS; an error document becomes an exception with what it says. */
async function cos(method, bucket, key, query, options = {}) {
  const answer = await fetch(address(bucket, key, query), { method, ...options });
  if (answer.ok) return answer;
  const document_ = parse(await answer.text());
  const text = (name) => document_.querySelector(name)?.textContent;
  throw new Error(`${text("Code") || answer.status}: ${text("Message") || answer.statusText}`);
}

function parse(text) {
  return new DOMParser().parseFromString(text, "application/xml");
}

function link(bucket, prefix) {
  return `#/buckets/${encodeURIComponent(bucket)}/${encodeURIComponent(prefix)}`;
}

// --- buckets

const BUCKET_COLUMNS = [["Bucket", "wide"], ["Region", ""], ["Versioning", ""], ["Created", ""], ["", ""]];

export async function showBuckets() {
  const { buckets } = await call("GET", "buckets");
  const name = h("input", { name: "name", placeholder: "New bucket", "aria-label": "New bucket", required: true });
  const form = h("form", { onsubmit: make }, name, " ", h("button", { class: "main" }, "Create"));
  const rows = buckets.map((bucket) => row(BUCKET_COLUMNS,
    h("a", { href: link(bucket.name, "") }, bucket.name), bucket.region, bucket.versioning || "off",
    new Date(bucket.created * 1000).toLocaleString("en-GB"),
    h("button", { class: "danger", onclick: () => remove(bucket.name) }, "Delete")));
  show(section([h("h2", {}, "Buckets"), h("span", { class: "space" }), form],
    h("div", { class: "scroll", id: "buckets" },
      rows.length ? table(BUCKET_COLUMNS, rows) : h("p", { class: "empty" }, "No bucket yet."))));

  async function make(event) {
    event.preventDefault();
    await call("POST", "buckets", { name: name.value });
    tell("");
    await showBuckets();
  }
  async function remove(bucket) {
    if (!confirm(`Delete the bucket ${bucket}? It must be empty.`)) return;
    await cos("DELETE", bucket);
    await showBuckets();
  }
}

// --- objects

const OBJECT_COLUMNS = [["Key", "wide"], ["Size", "number"], ["Modified", ""], ["Class", ""], ["", ""]];

export async function showObjects(bucket, prefix) {
  const list = table(OBJECT_COLUMNS, []);
  list.id = "objects";
  const body = list.tBodies[0];
  const more = h("button", { onclick: load, hidden: true }, "Show more");
  const picker = h("input", { type: "file", multiple: true, hidden: true, onchange: () => send(picker.files) });
  const search = h("input", { type: "search", placeholder: "Prefix", "aria-label": "Prefix", value: prefix });
  const form = h("form", { onsubmit: seek }, search, " ", h("button", {}, "Go"));
  const place = section(
    [h("h2", {}, crumbs(bucket, prefix)), h("span", { class: "space" }), form, picker,
      h("button", { class: "main", onclick: () => picker.click() }, "Upload")],
    h("div", { class: "scroll" }, list), h("p", { class: "empty" }, more));
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("drop");
  });
  place.addEventListener("dragleave", () => place.classList.remove("drop"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("drop");
    send(event.dataTransfer.files).catch((error) => tell(error.message));
  });
  show(place);
  let marker = "";
  await load();

  async function load() {
    const query = { prefix, delimiter: "/", marker, "max-keys": "200", "encoding-type": "url" };
    const page = parse(await (await cos("GET", bucket, "", query)).text());
    const text = (node, name) => decodeURIComponent(node.querySelector(`:scope > ${name}`)?.textContent ?? "");
    const root = page.documentElement;
    for (const node of root.querySelectorAll(":scope > CommonPrefixes")) {
      const folder = text(node, "Prefix");
      const name = h("a", { href: link(bucket, folder) }, `${folder.slice(prefix.length)}`);
      body.append(row(OBJECT_COLUMNS, name, "", "", "", ""));
    }
    for (const node of root.querySelectorAll(":scope > Contents")) body.append(objectRow(node, text));
    marker = text(root, "NextMarker");
    more.hidden = text(root, "IsTruncated") !== "true";
    if (!body.rows.length) body.append(row(OBJECT_COLUMNS, h("span", { class: "soft" }, "Nothing here."), "", "", "", ""));
  }
  function objectRow(node, text) {
    const key = text(node, "Key");
    const name = h("button", { class: "link", onclick: () => showObject(bucket, key) }, key.slice(prefix.length) || key);
    const modified = new Date(text(node, "LastModified")).toLocaleString("en-GB");
    return row(OBJECT_COLUMNS, name, size(text(node, "Size")), modified, text(node, "StorageClass"),
      h("button", { class: "danger", onclick: () => removeObject(bucket, key) }, "Delete"));
  }
  function seek(event) {
    event.preventDefault();
    location.hash = link(bucket, search.value);
  }
  async function send(files) {
    for (const [index, file] of [...files].entries()) {
      tell(`Uploading ${index + 1} of ${files.length}: ${file.name}`);
      await cos("PUT", bucket, prefix + file.name, {}, { body: file });
    }
    tell("");
    await showObjects(bucket, prefix);
  }
  async function removeObject(name, key) {
    if (!confirm(`Delete ${key}?`)) return;
    await cos("DELETE", name, key);
    document.getElementById("dialog").close();
    await showObjects(bucket, prefix);
  }
}

function crumbs(bucket, prefix) {
  const parts = [h("a", { href: "#/buckets" }, "Buckets"), " / ", h("a", { href: link(bucket, "") }, bucket)];
  let path = "";
  for (const part of prefix.split("/").slice(0, -1)) {
    path += `${part}/`;
    parts.push(" / ", h("a", { href: link(bucket, path) }, part || "(empty)"));
  }
  const rest = prefix.slice(path.length);
  return rest ? [...parts, ` / ${rest}…`] : parts;
}

async function showObject(bucket, key) {
  const answer = await cos("HEAD", bucket, key);
  const hidden = new Set(["date", "server", "connection", "cache-control", "content-security-policy",
    "content-disposition", "referrer-policy", "x-frame-options", "x-content-type-options", "x-cos-request-id",
    "cross-origin-resource-policy", "accept-ranges"]);
  const facts = [...answer.headers].filter(([name]) => !hidden.has(name));
  const list = h("dl", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  const download = h("a", { href: address(bucket, key), download: key.split("/").pop() || "object" }, "Download");
  const preview = h("pre", { hidden: true });
  showDialog(key, h("dl", {}, h("dt", {}, download), h("dd", {}, `cos://${bucket}/${key}`)), list, preview);
  await showText(bucket, key, answer, preview);
}

/** Show the beginning of what is text. */
async function showText(bucket, key, head, preview) {
  const length = Number(head.headers.get("content-length"));
  if (!length) return;
  const answer = await fetch(address(bucket, key), { headers: { Range: `bytes=0-${PREVIEW - 1}` } });
  if (!answer.ok) return;
  const bytes = new Uint8Array(await answer.arrayBuffer());
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: length > bytes.length });
  } catch {
    return;
  }
  if (text.includes("\0")) return;
  preview.textContent = length > bytes.length ? `${text}\n…` : text;
  preview.hidden = false;
}
