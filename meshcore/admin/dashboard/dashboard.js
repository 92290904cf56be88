// The dashboard of one proxy.  It reads /events (server-sent events, by fetch, so that a token can go along), /stack
// and /tap, and writes what it reads as text only: no value ever becomes markup.
//
//   1  elements      making and changing them
//   2  words         numbers, times and rates as people read them
//   3  talking       fetch with a token; lines and events from a stream
//   4  the stream    /events, again and again
//   5  pieces        sparklines, tables
//   6  the views     overview, topology, stack, traffic, tap, events
//   7  the frame     tabs, theme, sign-in, start

// ----- 1 elements -----

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// Children are nodes, or text that stays text.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function icon(name, label) {
  const use = s("use", { href: `#${name}` });
  return label
    ? s("svg", { class: `icon ${name}`, viewBox: "0 0 16 16", role: "img", "aria-label": label }, use)
    : s("svg", { class: `icon ${name}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, use);
}

// Only what has changed is touched, so that a selection, a focus and a screen reader stay where they are.
function setText(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}
function setAttribute(node, name, value) {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}
function badge(node, level, text) {
  setAttribute(node, "class", `badge ${level ?? ""}`.trim());
  setText(node, text);
}

// One child for each item, the same one as before where the key is the same.
function keyed(parent, items, key, make, update) {
  const before = parent.keyedChildren ?? new Map();
  const now = new Map();
  items.forEach((item, index) => {
    let name = key(item);
    while (now.has(name)) name += "'";
    const node = before.get(name) ?? make(item);
    update?.(node, item);
    now.set(name, node);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  for (const [name, node] of before) if (now.get(name) !== node) node.remove();
  parent.keyedChildren = now;
}

// ----- 2 words -----

const NONE = "–";
function text(value) {
  if (value == null || value === "") return NONE;
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}

const WHOLE = new Intl.NumberFormat("en");

function count(value) {
  if (value == null) return NONE;
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)} k`;
  return WHOLE.format(Math.round(value));
}
function rate(value) {
  if (value == null) return NONE;
  return value >= 1e4 ? count(value) : value >= 100 ? WHOLE.format(Math.round(value)) : value.toFixed(value && value < 0.1 ? 2 : 1);
}
function percent(value) {
  if (value == null) return NONE;
  // Never rounded up to "all".
  const floored = Math.floor(value * 1e4 + 1e-6) / 100;
  return `${floored === 100 || floored === 0 ? floored : floored.toFixed(2)} %`;
}
function millis(value) {
  if (value == null) return NONE;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}
const micros = (value) => (value == null ? NONE : value >= 1e3 ? millis(value / 1e3) : `${value.toFixed(value < 10 ? 1 : 0)} µs`);
function duration(seconds) {
  if (seconds == null) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const level = (success) => (success == null ? "" : success >= 0.99 ? "good" : success >= 0.95 ? "warn" : "bad");

// ----- 3 talking -----

const TOKEN = "meshcore.token";

// Where a browser lets no page keep anything, it is known until the page is left.
function storage(name) {
  try {
    return window[name];
  } catch {
    const kept = new Map();
    return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  }
}
const session = storage("sessionStorage");
const local = storage("localStorage");

class Refused extends Error {
  constructor(status, message) {
    super(message || `the proxy answered ${status}`);
    this.status = status;
  }
}

async function ask(path, { headers = {}, signal } = {}) {
  const token = session.getItem(TOKEN);
  const all = token ? { ...headers, authorization: `Bearer ${token}` } : headers;
  const response = await fetch(path, { headers: all, signal, cache: "no-store", credentials: "same-origin" });
  if (response.ok) return response;
  // What was asked with another token than the one that is given by now says nothing about this one.
  if (response.status === 401 && session.getItem(TOKEN) === token) signIn(token ? "That token is not the right one." : "");
  throw new Refused(response.status, (await response.text()).slice(0, 300).trim());
}

// The parts of a text stream between separators; *heard* is told of each piece, whole or not.
async function* parts(response, separator, heard) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard?.();
      rest += value;
      const found = rest.split(separator);
      rest = found.pop();
      if (rest.length > 4e6) throw new Error("a line without an end");
      yield* found;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  const event = { kind: "message", data: "", id: null };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "event") event.kind = value;
    else if (name === "data") event.data += value;
    else if (name === "id") event.id = value;
  }
  return event;
}

// ----- 4 the stream -----

const SILENCE = 25_000; // ms; there is at least a comment every 15 s.

class Stream {
  constructor(take) {
    this.take = take;
    this.last = null;
    this.failures = 0;
    this.wanted = false;
    this.controller = null;
    this.timer = 0;
  }

  open() {
    if (this.wanted) return;
    this.wanted = true;
    this.failures = 0;
    this.read();
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    this.controller?.abort();
  }

  async read() {
    const controller = (this.controller = new AbortController());
    let silence = 0;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => controller.abort(), SILENCE);
    };
    let problem = "Connection lost";
    try {
      heard();
      const headers = { accept: "text/event-stream" };
      if (this.last) headers["last-event-id"] = this.last;
      const response = await ask("events", { headers, signal: controller.signal });
      for await (const block of parts(response, "\n\n", heard)) {
        const event = parseEvent(block);
        if (event.id) this.last = event.id;
        if (event.kind === "end") problem = "The proxy has stopped";
        else if (event.data) {
          this.failures = 0;
          this.take(event.kind, JSON.parse(event.data));
        }
        if (this.controller !== controller) break;
      }
    } catch (error) {
      if (error.status === 401 && this.controller === controller) this.wanted = false;
      if (error instanceof Refused) problem = error.message;
    } finally {
      clearTimeout(silence);
      controller.abort();
    }
    if (!this.wanted || this.controller !== controller) return;
    this.failures += 1;
    const wait = Math.min(15, 0.5 * 2 ** this.failures) * (0.75 + Math.random() / 2);
    showLink("lost", `${problem}; trying again in ${Math.ceil(wait)} s`);
    this.timer = setTimeout(() => this.wanted && this.read(), wait * 1000);
  }
}

// ----- 5 pieces -----

const HISTORY = 120; // seconds

// A line on a canvas; its text alternative says what the line says.
class Sparkline {
  constructor(what, show, { floor = 0, ceiling = null } = {}) {
    this.what = what;
    this.show = show;
    this.floor = floor;
    this.ceiling = ceiling;
    this.values = [];
    this.canvas = h("canvas", { role: "img", "aria-label": `${what}: nothing yet` });
  }

  // *missed* seconds before it, of which nothing is known, are a gap.
  add(value, missed = 0) {
    for (let left = Math.min(missed, HISTORY); left > 0; left -= 1) this.values.push(null);
    this.values.push(value);
    this.values.splice(0, this.values.length - HISTORY);
    this.draw();
  }

  draw() {
    const known = this.values.filter((value) => value != null);
    if (known.length) {
      const range = `between ${this.show(Math.min(...known))} and ${this.show(Math.max(...known))}`;
      setAttribute(this.canvas, "aria-label", `${this.what} over the last ${this.values.length} seconds: ${range}`);
    }
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.strokeStyle = pen.fillStyle = getComputedStyle(this.canvas).color;
    pen.globalAlpha = 0.25;
    pen.fillRect(0, height - 1, width, 1);
    const low = this.ceiling == null ? this.floor : Math.min(this.floor, ...known);
    const high = this.ceiling ?? Math.max(low + 1e-9, ...known) * 1.08;
    const x = (index) => width - 1.5 - ((this.values.length - 1 - index) * (width - 3)) / (HISTORY - 1);
    const y = (value) => height - 2 - ((value - low) / (high - low || 1)) * (height - 5);
    let run = [];
    const finish = () => {
      if (run.length > 1) {
        pen.globalAlpha = 0.12;
        pen.beginPath();
        pen.moveTo(run[0][0], height - 1);
        run.forEach(([across, down]) => pen.lineTo(across, down));
        pen.lineTo(run.at(-1)[0], height - 1);
        pen.fill();
        pen.globalAlpha = 1;
        pen.lineWidth = 1.5;
        pen.lineJoin = "round";
        pen.beginPath();
        run.forEach(([across, down]) => pen.lineTo(across, down));
        pen.stroke();
      }
      if (run.length) {
        pen.globalAlpha = 1;
        pen.beginPath();
        pen.arc(...run.at(-1), 2, 0, 7);
        if (run === last) pen.fill();
      }
      run = [];
    };
    let last = null;
    this.values.forEach((value, index) => {
      if (value == null) return finish();
      run.push([x(index), y(value)]);
      if (index === this.values.length - 1) last = run;
    });
    finish();
  }
}

// A table whose headers sort it and whose rows keep their elements.
class Table {
  constructor(parent, caption, columns, { key, sort, down = false, empty }) {
    Object.assign(this, { columns, key, sort, down, rows: [], words: [] });
    this.small = h("small", {});
    this.heads = columns.map((column) => {
      const button = h("button", { type: "button", onclick: () => this.by(column) }, column.label);
      return h("th", { scope: "col", class: this.kind(column), title: column.title }, button);
    });
    this.body = h("tbody", {});
    this.empty = h("p", { class: "empty" }, empty);
    const head = h("thead", {}, h("tr", {}, this.heads));
    this.table = h("table", {}, h("caption", {}, caption, this.small), head, this.body);
    parent.append(h("div", { class: "table", role: "region", "aria-label": caption, tabindex: "0" }, this.table), this.empty);
  }

  by(column) {
    this.down = this.sort === column.id ? !this.down : Boolean(column.number);
    this.sort = column.id;
    this.draw();
  }

  filter(given) {
    this.words = given.toLowerCase().split(/\s+/).filter(Boolean);
    this.draw();
  }

  set(rows, left = 0) {
    this.rows = rows;
    this.left = left;
    this.draw();
  }

  shown() {
    const column = this.columns.find(({ id }) => id === this.sort);
    const value = (row) => (column.value ? column.value(row) : row[column.id]);
    const matches = (row) => {
      const all = this.columns.map((each) => (each.text ?? text)(each.value ? each.value(row) : row[each.id], row)).join(" ").toLowerCase();
      return this.words.every((word) => all.includes(word));
    };
    const sign = this.down ? -1 : 1;
    const found = this.words.length ? this.rows.filter(matches) : [...this.rows];
    // What is not known comes last, whichever way.
    return found.sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      if (one == null || other == null) return (one == null) - (other == null) || this.key(a).localeCompare(this.key(b));
      const order = typeof one === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
      return sign * order || this.key(a).localeCompare(this.key(b));
    });
  }

  draw() {
    this.columns.forEach((column, index) => {
      setAttribute(this.heads[index], "aria-sort", column.id === this.sort ? (this.down ? "descending" : "ascending") : null);
    });
    const rows = this.shown();
    const of = rows.length === this.rows.length ? `${rows.length}` : `${rows.length} of ${this.rows.length}`;
    setText(this.small, `${of}${this.left ? `, and ${count(this.left)} less busy ones` : ""}`);
    this.table.hidden = !this.rows.length;
    this.empty.hidden = this.rows.length > 0;
    keyed(this.body, rows, this.key, () => this.row(), (node, row) => this.update(node, row));
  }

  // Later ones are not shown on a phone; what they say is under the first one then.
  kind({ number, long, later }) {
    return [number && "number", long && "long", later && "later"].filter(Boolean).join(" ") || null;
  }

  row() {
    const cell = (column, index) =>
      index ? h("td", { class: this.kind(column) }) : h("th", { scope: "row" }, h("span", {}), h("small", { class: "under" }));
    return h("tr", {}, this.columns.map(cell));
  }

  update(node, row) {
    this.columns.forEach((column, index) => {
      const cell = node.children[index];
      const value = column.value ? column.value(row) : row[column.id];
      if (column.show) return column.show(cell, value, row);
      const words = (column.text ?? text)(value, row);
      setText(index ? cell : cell.firstChild, words);
      if (column.under) setText(cell.lastChild, column.under(row).filter(Boolean).join(" · "));
      if (column.long || !index) setAttribute(cell, "title", words);
    });
  }
}

const SIGN = { good: "good", warn: "warn", bad: "bad" };

// A word with an icon, so that its colour is not the only sign.
function showSign(cell, words, sign) {
  const mark = `${words}|${sign}`;
  if (cell.mark === mark) return;
  cell.mark = mark;
  cell.replaceChildren(words === NONE ? words : h("span", { class: `badge ${sign ?? ""}` }, SIGN[sign] && icon(sign), words));
}
function showSuccess(cell, value) {
  const words = percent(value);
  const sign = level(value);
  setAttribute(cell, "class", `number ${sign === "good" ? "" : sign}`.trim());
  setText(cell, sign === "bad" ? `▼ ${words}` : sign === "warn" ? `▾ ${words}` : words);
}
const golden = [
  { id: "rps", label: "req/s", number: true, text: rate },
  { id: "success", label: "Success", number: true, text: percent, show: showSuccess },
  { id: "p50", label: "p50", number: true, text: millis, title: "half of the answers began within this time" },
  { id: "p95", label: "p95", number: true, text: millis },
  { id: "p99", label: "p99", number: true, text: millis },
];

// ----- 6 the views: overview -----

class Golden {
  constructor(parent, direction) {
    this.tiles = [
      this.tile(parent, "Requests", new Sparkline(`${direction} requests per second`, rate)),
      this.tile(parent, "Success", new Sparkline(`${direction} success rate`, percent, { floor: 0.9, ceiling: 1 })),
      this.tile(parent, "Latency, p95", new Sparkline(`${direction} latency, 95th percentile`, millis)),
    ];
  }

  tile(parent, title, sparkline) {
    const value = h("span", { class: "value" }, NONE);
    const beside = h("span", { class: "beside" });
    const node = h("div", { class: "metric" }, h("h3", {}, title), value, beside, sparkline.canvas);
    parent.append(node);
    return { node, value, beside, sparkline };
  }

  add(figures, window, missed) {
    const [requests, success, latency] = this.tiles;
    const show = (tile, words, unit, beside) => {
      if (tile.shown !== words + unit) tile.value.replaceChildren(words, unit ? h("small", {}, unit) : "");
      tile.shown = words + unit;
      setText(tile.beside, beside);
    };
    const split = (words) => (words === NONE ? [words, ""] : [words.replace(/ \S+$/, ""), / (\S+)$/.exec(words)?.[1] ?? ""]);
    show(requests, rate(figures.rps), "/s", figures.requests == null ? "" : `${count(figures.requests)} in ${Math.round(window)} s`);
    const failed = figures.success == null ? null : Math.round((1 - figures.success) * figures.requests);
    show(success, ...split(percent(figures.success)), failed == null ? "no answers" : failed ? `${count(failed)} failed` : "none failed");
    show(latency, ...split(millis(figures.p95)), `p50 ${millis(figures.p50)}·p99 ${millis(figures.p99)}`.replaceAll(" ", "\u00a0").replace("·", " · "));
    const sign = level(figures.success);
    setAttribute(success.node, "data-level", sign === "good" ? null : sign);
    requests.sparkline.add(figures.rps, missed);
    success.sparkline.add(figures.success, missed);
    latency.sparkline.add(figures.p95, missed);
  }

  draw() {
    this.tiles.forEach(({ sparkline }) => sparkline.draw());
  }
}

const STATES = { ready: "good", waiting: "warn", draining: "warn" };

class Overview {
  constructor() {
    this.inbound = new Golden($("golden-inbound"), "inbound");
    this.outbound = new Golden($("golden-outbound"), "outbound");
    $("all-events").addEventListener("click", () => show("events", true));
    this.facts = {};
  }

  sample({ proxy, total, endpoints = [], edges = [], time, window }) {
    // While the page is hidden, or the proxy away, nobody looks.  A sample that is a second late is no gap.
    const passed = this.time == null ? 0 : time - this.time;
    const missed = passed > 3 ? Math.round(passed) - 1 : 0;
    this.time = time;
    this.inbound.add(total?.inbound ?? {}, window, missed);
    this.outbound.add(total?.outbound ?? {}, window, missed);
    const ready = endpoints.filter(({ state, breaker }) => state === "ready" && breaker !== "open").length;
    const open = endpoints.filter(({ breaker }) => breaker === "open").length;
    const secured = edges.filter((edge) => edge.secured).length;
    const left = proxy.expires == null ? null : proxy.expires - time;
    const facts = [
      ["Identity", proxy.identity ?? "none: plaintext", ""],
      ["Certificate", left == null ? NONE : left > 0 ? `${duration(left)} left` : "has expired", left != null && left < 600 ? "bad" : ""],
      ["Endpoints ready", endpoints.length ? `${ready} of ${endpoints.length}` : NONE, ready < endpoints.length ? "warn" : ""],
      ["Breakers open", String(open), open ? "warn" : ""],
      ["Edges with mTLS", edges.length ? `${secured} of ${edges.length}` : NONE, ""],
      ["Version", proxy.version, ""],
      ["Uptime", duration(proxy.uptime), ""],
    ];
    for (const [name, words, sign] of facts) {
      const node = (this.facts[name] ??= this.fact(name));
      setText(node, words);
      setAttribute(node, "class", sign || null);
    }
  }

  fact(name) {
    const node = h("dd", {});
    $("facts").append(h("div", {}, h("dt", {}, name), node));
    return node;
  }

  shown() {
    this.inbound.draw();
    this.outbound.draw();
  }
}

// ----- topology -----

const MOST_NODES = 10;
const REASONS = {
  no_tls_from_remote: "the client did not use TLS", not_provided_by_service_discovery: "no identity is configured",
  no_identity: "the client showed no certificate", disabled: "no [identity]", loopback: "same host", port_skipped: "port is skipped",
  opaque: "TLS of their own",
};
const reason = (edge) => (edge.secured ? "" : REASONS[edge.no_tls_reason] ?? (edge.no_tls_reason || "plaintext"));

class Topology {
  constructor() {
    this.table = new Table($("edges"), "Edges", [
      { id: "source", label: "Source", under: (edge) => [`→ ${edge.target}`, edge.secured ? "mTLS" : reason(edge)], text: (value, edge) => (edge.source_identity && edge.source_identity !== value ? `${value} (${edge.source_identity})` : text(value)) },
      { id: "target", label: "Target", long: true, later: true, text: (value, edge) => (edge.target_identity && edge.target_identity !== value ? `${value} (${edge.target_identity})` : text(value)) },
      { id: "direction", label: "Direction", later: true },
      { id: "secured", label: "mTLS", later: true, value: (edge) => (edge.secured ? "secured" : reason(edge)), show: (cell, words, edge) => {
        if (cell.mark === words) return;
        cell.mark = words;
        cell.replaceChildren(icon(edge.secured ? "lock" : "unlock"), ` ${words}`);
      } },
      { id: "connections", label: "Open", number: true, later: true, text: count, title: "connections that are open now" },
      ...golden,
    ], { key: (edge) => [edge.direction, edge.source, edge.target, edge.source_identity, edge.target_identity, edge.no_tls_reason].join("\n"), sort: "rps", down: true, empty: "No traffic yet." });
    this.last = null;
    new ResizeObserver(() => this.draw()).observe($("map"));
  }

  sample(sample) {
    this.last = sample;
    if ($("topology").hidden) return;
    this.table.set(sample.edges ?? [], sample.more?.edges);
    this.draw();
  }

  shown() {
    if (this.last) this.sample(this.last);
  }

  draw() {
    const width = Math.floor($("map").clientWidth);
    if (!this.last || !width) return;
    const { edges = [], backends = [], proxy, total } = this.last;
    $("map-empty").hidden = edges.length > 0;
    const busiest = (direction) => edges.filter((edge) => edge.direction === direction).sort((a, b) => b.rps - a.rps);
    const sides = { inbound: busiest("inbound"), outbound: busiest("outbound") };
    // What is on this host has no edge: who is behind the proxy, and who asks through it.
    const near = (ends, figures) => ({ ...figures, ...ends, secured: false, no_tls_reason: "loopback" });
    const behind = backends.filter(({ direction }) => direction === "inbound");
    sides.outbound.push(...behind.map((each) => near({ source: proxy.name, target: each.backend }, each)));
    if (!sides.inbound.length && total?.outbound) sides.inbound.push(near({ source: "local clients", target: proxy.name }, total.outbound));
    const left = Object.values(sides).reduce((sum, side) => sum + Math.max(0, side.length - MOST_NODES), 0);
    const [from, to] = [sides.inbound.slice(0, MOST_NODES), sides.outbound.slice(0, MOST_NODES)];
    const picture = width < 620 ? this.tall(width, from, to, proxy) : this.wide(width, from, to, proxy);
    const said = `${sides.inbound.length} sources send to ${proxy.name}, which sends to ${sides.outbound.length} targets${left ? `; ${left} are not drawn` : ""}. The table below has the same.`;
    picture.prepend(s("title", {}, "Topology"), s("desc", {}, said));
    $("map").replaceChildren(edges.length ? picture : "");
  }

  svg(width, height) {
    return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Topology: the table below has the same" });
  }

  node(x, y, width, height, name, sub, kind = "") {
    const cut = (words, room) => (words.length > room ? `${words.slice(0, Math.max(1, room - 1))}…` : words);
    const [room, small] = [Math.floor((width - 20) / 7.3), Math.floor((width - 20) / 6.1)];
    return s("g", { class: `node ${kind}`, transform: `translate(${x} ${y})` },
      s("title", {}, `${name}\n${sub}`),
      s("rect", { width, height, rx: 9 }),
      s("text", { x: 11, y: height / 2 - 3, "font-weight": 600 }, cut(name, room)),
      s("text", { x: 11, y: height / 2 + 13, class: "sub" }, cut(sub, small)));
  }

  edge(edge, line, lock, most = 9) {
    const thick = Math.min(most, 1.5 + 2.2 * Math.log10(1 + edge.rps));
    const sign = edge.secured ? "mutual TLS" : reason(edge);
    const [x, y] = lock;
    return s("g", { class: `${level(edge.success) || "muted"} ${edge.secured ? "" : "plain"} ${edge.rps ? "" : "idle"}` },
      s("title", {}, `${edge.source} → ${edge.target}: ${rate(edge.rps)} req/s, ${percent(edge.success)} succeed, ${sign}`),
      s("path", { class: "edge", d: line, "stroke-width": thick.toFixed(1) }),
      s("circle", { class: "halo", cx: x, cy: y, r: 11 }),
      s("use", { href: edge.secured ? "#lock" : "#unlock", x: x - 7, y: y - 8, width: 14, height: 14 }));
  }

  label(edge) {
    return `${rate(edge.rps)}/s · ${percent(edge.success)}${edge.secured ? "" : ` · ${reason(edge)}`}`;
  }

  // Sources on the left, the proxy between, targets on the right.
  wide(width, from, to, proxy) {
    const [box, high, gap] = [Math.min(230, width * 0.27), 46, 20];
    const rows = Math.max(from.length, to.length, 1);
    const height = Math.max(150, rows * (high + gap) + 24);
    const picture = this.svg(width, height);
    const middle = { x: (width - box) / 2, y: height / 2 - 32, high: 64 };
    const place = (count, index) => (height - (count * (high + gap) - gap)) / 2 + index * (high + gap);
    const nodes = [];
    const draw = (side, x, port, peer, sign) => side.forEach((edge, index) => {
      const y = place(side.length, index);
      const [x1, y1] = [sign > 0 ? x + box : x, y + high / 2];
      const y2 = middle.y + middle.high / 2 + (index - (side.length - 1) / 2) * Math.min(14, 48 / side.length);
      const bend = (port - x1) / 2;
      picture.append(this.edge(edge, `M${x1} ${y1}C${x1 + bend} ${y1} ${port - bend} ${y2} ${port} ${y2}`, [x1 + sign * 20, y1]));
      nodes.push(this.node(x, y, box, high, edge[peer], this.label(edge)));
    });
    draw(from, 0.5, middle.x, "source", 1);
    draw(to, width - box - 0.5, middle.x + box, "target", -1);
    nodes.push(this.node(middle.x, middle.y, box, middle.high, proxy.name, proxy.identity ?? "no identity", "self"));
    picture.append(...nodes);
    return picture;
  }

  // On a phone: sources, below them the proxy, below it targets.
  tall(width, from, to, proxy) {
    const [box, high, gap] = [width - 72, 46, 12];
    const rows = (count) => count * (high + gap);
    const y0 = rows(from.length) + (from.length ? 18 : 0);
    const picture = this.svg(width, y0 + 60 + (to.length ? 18 : 0) + rows(to.length));
    const nodes = [];
    from.forEach((edge, index) => {
      const y = index * (high + gap);
      const x = width - 10 - (index % 4) * 9;
      picture.append(this.edge(edge, `M${box} ${y + high / 2}H${x - 10}Q${x} ${y + high / 2} ${x} ${y + high / 2 + 10}V${y0}`, [box + 13, y + high / 2], 6));
      nodes.push(this.node(0.5, y + 0.5, box, high, edge.source, this.label(edge)));
    });
    to.forEach((edge, index) => {
      const y = y0 + 60 + 18 + index * (high + gap);
      const x = 10 + (index % 4) * 9;
      picture.append(this.edge(edge, `M${x} ${y0 + 60}V${y + high / 2 - 10}Q${x} ${y + high / 2} ${x + 10} ${y + high / 2}H${width - box}`, [width - box - 13, y + high / 2], 6));
      nodes.push(this.node(width - box - 0.5, y, box, high, edge.target, this.label(edge)));
    });
    nodes.push(this.node(0.5, y0, width - 1, 60, proxy.name, proxy.identity ?? "no identity", "self"));
    picture.append(...nodes);
    return picture;
  }
}

// ----- stack -----

const AGAIN = 2_000; // ms between two looks at /stack, while it is looked at

class StackView {
  constructor() {
    this.names = "";
    this.timer = 0;
    this.value = {};
    $("pipeline").addEventListener("change", () => this.draw());
    const titles = ["calls", "in flight", "mean", "self"].map((word, index) => h("span", { class: `n ${index % 2 ? "wide" : ""}` }, word));
    const heading = h("div", { class: "layer" }, h("div", { class: "row heading" }, h("span", {}, "layer"), titles, h("span", { class: "share-title wide" }, "share of self time")));
    this.list = h("ol", {});
    $("layers").append(heading, this.list);
  }

  shown() {
    this.look();
  }

  left() {
    clearTimeout(this.timer);
  }

  async look() {
    clearTimeout(this.timer);
    try {
      this.value = await (await ask("stack", { headers: { accept: "application/json" } })).json();
      $("stack-problem").hidden = true;
      this.draw();
    } catch (error) {
      setText($("stack-problem"), `The stack is not known: ${error.message}`);
      $("stack-problem").hidden = false;
    }
    if (!$("stack").hidden && !document.hidden) this.timer = setTimeout(() => this.look(), AGAIN);
  }

  draw() {
    const names = Object.keys(this.value);
    if (this.names !== names.join("\n")) {
      const chosen = $("pipeline").value;
      this.names = names.join("\n");
      $("pipeline").replaceChildren(...names.map((name) => h("option", {}, name)));
      if (names.includes(chosen)) $("pipeline").value = chosen;
    }
    const pipeline = this.value[$("pipeline").value];
    if (!pipeline) return;
    const layers = pipeline.layers ?? [];
    this.most = Math.max(1e-9, ...this.all(layers).map((layer) => this.self(layer)));
    this.layers(this.list, layers);
    this.services(pipeline.live?.services ?? []);
  }

  all(layers) {
    return layers.flatMap((layer) => [layer, ...Object.values(layer.branches ?? {}).flatMap((branch) => this.all(branch))]);
  }

  self(layer) {
    return (layer.account?.self_us ?? 0) * (layer.account?.calls ?? 0);
  }

  layers(list, layers) {
    keyed(list, layers, (layer) => layer.role, () => this.layer(), (node, layer) => this.update(node, layer));
  }

  layer() {
    const node = h("li", { class: "layer" });
    const cells = (node.cells = {});
    const part = (name, attributes) => (cells[name] = h("span", attributes));
    const summary = h("summary", {},
      h("span", { class: "role" }, part("role"), part("per")),
      part("calls", { class: "n" }), part("flight", { class: "n wide" }), part("mean", { class: "n" }), part("own", { class: "n wide" }),
      h("span", { class: "share", "aria-hidden": "true" }, (cells.share = h("i", {}))));
    const more = h("div", { class: "more" }, (cells.counts = h("p", { class: "counts" })), (cells.code = h("code", {})));
    node.append(h("details", {}, summary, more), (cells.branches = h("ol", {})));
    return node;
  }

  update({ cells }, layer) {
    const account = layer.account;
    setText(cells.role, layer.role);
    setAttribute(cells.per, "class", layer.per ? "badge" : null);
    setText(cells.per, layer.per ? `per ${layer.per}` : "");
    const number = (cell, value, words, what) => {
      setText(cell, words(value));
      setAttribute(cell, "data-none", value == null ? "" : null);
      setAttribute(cell, "title", what);
    };
    number(cells.calls, account?.calls, count, "calls");
    number(cells.flight, account?.in_flight, count, "in flight now");
    number(cells.mean, account?.mean_us, micros, "mean time from call to answer");
    number(cells.own, account?.self_us, micros, "of it in the layer itself");
    cells.share.style.width = `${(100 * this.self(layer)) / this.most}%`;
    setText(cells.code, layer.layer ?? "");
    const told = Object.entries(account ?? {}).filter(([name]) => !["calls", "in_flight", "mean_us", "self_us"].includes(name));
    const pairs = told.flatMap(([name, value]) => (value && typeof value === "object" ? Object.entries(value) : [[name, value]]));
    keyed(cells.counts, pairs, ([name]) => name, () => h("span", {}), (each, [name, value]) => setText(each, `${name} ${typeof value === "number" ? count(value) : text(value)}`));
    const branches = Object.entries(layer.branches ?? {});
    keyed(cells.branches, branches, ([name]) => name, ([name]) => {
      return h("li", { class: "branch" }, `if ${name}`, h("ol", {}));
    }, (item, [, branch]) => this.layers(item.lastChild, branch));
  }

  // Trees of what is told, whatever that is; what was opened stays open.
  services(trees) {
    const flat = trees.flat().slice(0, 200);
    $("services-empty").hidden = flat.length > 0;
    this.values($("services"), Object.fromEntries(flat.map((each, index) => [`${each.role} #${index + 1}`, each])), 0);
  }

  values(parent, value, depth) {
    const entries = Object.entries(value).filter(([name]) => name !== "role").slice(0, 200);
    const isTree = ([, item]) => item && typeof item === "object" && Object.keys(item).length && (!Array.isArray(item) || typeof item[0] === "object");
    const plain = entries.filter((entry) => !isTree(entry));
    const trees = entries.filter(isTree).map(([name, item]) => [name, Array.isArray(item) ? Object.fromEntries(item.map((each, index) => [each.role ?? each.name ?? (Array.isArray(each.address) ? each.address.join(":") : `#${index + 1}`), each])) : item]);
    const items = [...(plain.length ? [["", plain]] : []), ...trees];
    keyed(parent, items, ([name]) => name, ([name]) => this.branch(name, depth), (node, [name, item]) => {
      if (name === "") {
        return keyed(node, item, ([key]) => key, ([key]) => h("span", {}, h("span", {}, `${key} `), h("b", {})), (each, [, one]) => setText(each.lastChild, Array.isArray(one) ? text(one.join(", ")) : text(one)));
      }
      node.told = item;
      if (node.open) this.values(node.lastChild, item, depth + 1);
    });
  }

  branch(name, depth) {
    if (name === "") return h("div", { class: "values" });
    const node = h("details", { open: depth < 2 }, h("summary", {}, name), h("div", {}));
    node.addEventListener("toggle", () => node.open && node.told && this.values(node.lastChild, node.told, depth + 1));
    return node;
  }
}

// ----- routes and endpoints -----

const BREAKERS = { open: "bad", probation: "warn" };
const CONDITIONS = { ready: "good", pending: "warn", failed: "bad", draining: "warn" };
const key = (...names) => (row) => names.map((name) => row[name] ?? "").join("\n");

class Traffic {
  constructor() {
    const state = (id, label, signs) => ({ id, label, show: (cell, value) => (value == null || value === "none" ? showSign(cell, NONE) : showSign(cell, value, signs[value])) });
    this.tables = {
      routes: new Table($("routes"), "Routes", [
        { id: "route", label: "Route", under: (row) => [row.parent, row.direction] },
        { id: "parent", label: "Of", long: true, later: true }, { id: "direction", label: "Direction", later: true }, ...golden,
      ], { key: key("direction", "parent", "route"), sort: "rps", down: true, empty: "No requests yet." }),
      backends: new Table($("backends"), "Backends", [
        { id: "backend", label: "Backend" },
        { id: "ready", label: "Ready", value: (row) => (row.ready + row.pending ? row.ready / (row.ready + row.pending) : 0), show: (cell, share, row) => showSign(cell, `${row.ready} of ${row.ready + row.pending}`, !row.ready ? "bad" : row.pending ? "warn" : "good") },
        { id: "waiting", label: "Waiting", number: true, later: true, text: count, title: "requests that wait for an endpoint" },
        { id: "retry_budget", label: "Retry budget", number: true, later: true, text: (value) => (value == null ? NONE : `${Math.round(value * 100)} %`) },
        ...golden,
      ], { key: key("direction", "backend"), sort: "rps", down: true, empty: "No backends yet." }),
      endpoints: new Table($("endpoints"), "Endpoints", [
        { id: "address", label: "Endpoint", under: (row) => [row.backend] }, { id: "backend", label: "Backend", long: true, later: true },
        state("state", "State", CONDITIONS), state("breaker", "Breaker", BREAKERS),
        { id: "secured", label: "mTLS", long: true, later: true, value: (row) => (row.secured ? row.identity ?? "secured" : "plaintext"), show: (cell, words, row) => {
          if (cell.mark === words) return;
          cell.mark = words;
          cell.replaceChildren(icon(row.secured ? "lock" : "unlock"), ` ${words}`);
        } },
        { id: "load", label: "Load", number: true, later: true, text: (value) => (value == null ? NONE : value.toPrecision(2)), title: "what the balancer compares" },
        { id: "pending", label: "Pending", number: true, later: true, text: count },
        ...golden,
        { id: "labels", label: "Labels", long: true, value: (row) => Object.entries(row.labels ?? {}).map(([name, value]) => `${name}=${value}`).join(" ") },
        { id: "age", label: "Age", number: true, text: duration },
      ], { key: key("backend", "address"), sort: "address", empty: "No endpoints yet." }),
    };
    $("traffic-filter").addEventListener("input", (event) => Object.values(this.tables).forEach((table) => table.filter(event.target.value)));
    this.last = null;
  }

  sample(sample) {
    this.last = sample;
    if ($("traffic").hidden) return;
    for (const [name, table] of Object.entries(this.tables)) table.set(sample[name] ?? [], sample.more?.[name]);
  }

  shown() {
    if (this.last) this.sample(this.last);
  }
}

// ----- tap -----

const MOST_TAPPED = 200;
const HIDDEN = ["id", "event", "time", "at", "ended", "opened", "headers", "response_headers", "trailer_fields"];

class Tap {
  constructor() {
    this.controller = null;
    this.seen = new Map();
    this.order = [];
    this.frame = 0;
    $("tap-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    $("tap-stop").addEventListener("click", () => this.stop("Stopped."));
    $("tap-clear").addEventListener("click", () => this.clear());
  }

  query() {
    const given = new URLSearchParams();
    for (const [name, value] of new FormData($("tap-form"))) if (value.trim()) given.set(name, value === "on" ? "true" : value.trim());
    return given;
  }

  running(is, words) {
    $("tap-start").disabled = is;
    $("tap-stop").disabled = !is;
    setText($("tap-state"), words);
  }

  async start() {
    this.stop("");
    this.clear();
    const controller = (this.controller = new AbortController());
    this.running(true, "Watching …");
    let why = "The proxy has ended it.";
    try {
      const response = await ask(`tap?${this.query()}`, { headers: { accept: "application/x-ndjson, application/json" }, signal: controller.signal });
      for await (const line of parts(response, "\n")) if (line.trim()) this.take(JSON.parse(line));
    } catch (error) {
      why = error instanceof Refused && error.status === 404 ? "This proxy has no tap." : error.message;
    }
    if (this.controller === controller) this.stop(why);
  }

  stop(words) {
    const controller = this.controller;
    this.controller = null;
    controller?.abort();
    this.running(false, words);
  }

  left() {
    if (this.controller) this.stop("Stopped: nobody was looking.");
  }

  clear() {
    this.dropped = 0;
    this.seen.clear();
    this.order = [];
    this.draw();
  }

  take(event) {
    if (event.event === "dropped") {
      this.dropped += event.requests;
      setText($("tap-state"), `Watching; ${count(this.dropped)} requests were too many to be shown.`);
    }
    if (!["request_init", "response_init", "response_end"].includes(event.event)) return;
    const id = String(event.id);
    let request = this.seen.get(id);
    if (!request) {
      request = { id, at: event.time };
      this.seen.set(id, request);
      this.order.unshift(request);
      // What is open is being read.
      while (this.order.length > MOST_TAPPED) {
        const at = this.order.findLastIndex((each) => !each.opened);
        this.seen.delete(this.order.splice(at, 1)[0].id);
      }
    }
    Object.assign(request, event, { id });
    if (event.event === "response_end") request.ended = true;
    // Once a frame, however many come.
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    $("tapped-empty").hidden = this.order.length > 0;
    keyed($("tapped"), this.order, ({ id }) => id, () => this.item(), (node, request) => this.update(node, request));
  }

  item() {
    const node = h("li", {});
    const cells = (node.cells = {});
    const part = (name, more = "") => (cells[name] = h("span", { class: `${name} ${more}` }));
    const summary = h("summary", {}, part("when"), part("direction"), part("status"), part("what"), part("who"), part("latency", "number"));
    cells.details = h("details", {}, summary, (cells.more = h("div", { class: "more" })));
    cells.details.addEventListener("toggle", () => {
      cells.request.opened = cells.details.open;
      this.open(node);
    });
    node.append(cells.details);
    return node;
  }

  update(node, request) {
    const { cells } = node;
    cells.request = request;
    const status = request.grpc_status != null ? `grpc ${request.grpc_status}` : request.status;
    const failed = request.failed ?? request.status >= 500;
    setText(cells.when, clock(request.at));
    setText(cells.direction, text(request.direction));
    showSign(cells.status, status == null ? (request.ended ? "no answer" : "…") : String(status), failed ? "bad" : status == null ? "" : request.status >= 400 ? "warn" : "good");
    setText(cells.what, `${request.method ?? ""} ${request.authority ?? ""}${request.path ?? ""}`);
    setText(cells.who, `${this.peer(request.source)} → ${this.peer(request.target)}`);
    setText(cells.latency, request.ended ? millis(request.since_ms) : "…");
    if (cells.details.open && cells.mark !== Object.keys(request).length) this.open(node);
  }

  peer(found) {
    return text(found?.identity || found?.addr);
  }

  open({ cells }) {
    if (!cells.details.open) return;
    const { request } = cells;
    cells.mark = Object.keys(request).length;
    const list = (title, pairs) => pairs.length > 0 && h("div", {}, h("h3", {}, title), h("dl", { class: "facts" }, pairs.slice(0, 100).flatMap(([name, value]) => [h("dt", {}, String(name)), h("dd", {}, text(value))])));
    const own = Object.entries(request).filter(([name, value]) => !HIDDEN.includes(name) && value != null && value !== "");
    const flat = own.flatMap(([name, value]) => (Array.isArray(value) ? [[name, value.join(", ")]]
      : typeof value !== "object" ? [[name, value]]
      : Object.entries(value).filter(([, one]) => one != null && typeof one !== "object").map(([inner, one]) => [`${name} ${inner}`, one])));
    const lists = [list("Exchange", flat), list("Request headers", request.headers ?? []), list("Response headers", request.response_headers ?? []), list("Trailers", request.trailer_fields ?? [])];
    cells.more.replaceChildren(...lists.filter(Boolean));
  }
}

// ----- events -----

const MOST_HAPPENINGS = 300;
const GOOD = ["proxy_ready", "config_applied", "identity_certified", "certificate_renewed", "panic_ended", "endpoint_added"];
const WARN = ["certificate_expiring", "endpoint_removed", "drain_started", "drain_ended"];
const severity = (kind) =>
  GOOD.includes(kind) || /_(recovered|back|available|found)$/.test(kind) ? "good"
  : WARN.includes(kind) || /_probation$/.test(kind) ? "warn"
  : /_(refused|expired|tripped|failed|unavailable|lost|out)$|^panic_/.test(kind) ? "bad" : "info";
const GROUPS = {
  problems: (kind) => ["bad", "warn"].includes(severity(kind)), config: (kind) => kind.startsWith("config"),
  endpoint: (kind) => /^(endpoint|breaker|health|backend|panic|discovery)/.test(kind),
  identity: (kind) => /^(identity|certificate)/.test(kind), proxy: (kind) => /^(proxy|drain)/.test(kind),
};

class Happenings {
  constructor() {
    this.all = [];
    this.frame = 0;
    this.live = false;
    for (const id of ["events-kind", "events-filter"]) $(id).addEventListener("input", () => this.draw());
  }

  take(happening) {
    const known = this.all.find(({ number }) => number === happening.number);
    // Another process counts from 1 again.
    if (known && known.time !== happening.time) this.all = [];
    else if (known) return;
    this.all.unshift(happening);
    if (this.all.length > MOST_HAPPENINGS) this.all.pop();
    // Read aloud: what is wrong, and only while one looks on; what was before is in the list.
    if (this.live && severity(happening.kind) === "bad") setText($("announce"), happening.text);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  forget() {
    this.all = [];
    this.draw();
  }

  draw() {
    this.frame = 0;
    const words = $("events-filter").value.toLowerCase();
    const group = GROUPS[$("events-kind").value] ?? (() => true);
    const found = this.all.filter(({ kind, text: said }) => group(kind) && `${kind} ${said}`.toLowerCase().includes(words));
    this.list($("happenings"), found);
    this.list($("latest"), this.all.slice(0, 6));
    $("happenings-empty").hidden = found.length > 0;
    $("latest-empty").hidden = this.all.length > 0;
  }

  list(parent, happenings) {
    keyed(parent, happenings, ({ number }) => String(number), (one) => {
      const sign = severity(one.kind);
      const time = h("time", { datetime: new Date(one.time * 1000).toISOString() }, clock(one.time));
      const fields = Object.entries(one.fields ?? {}).filter(([, value]) => value && !one.text.includes(value)).map(([name, value]) => ` · ${name} ${value}`);
      return h("li", {}, icon(sign, sign === "bad" ? "problem" : sign === "warn" ? "notice" : sign), h("span", { class: "what" }, one.text), time, h("span", { class: "kind" }, one.kind.replaceAll("_", " "), ...fields));
    });
  }
}

// ----- 7 the frame -----

const VIEWS = ["overview", "topology", "stack", "traffic", "tap", "events"];
const views = { overview: new Overview(), topology: new Topology(), stack: new StackView(), traffic: new Traffic(), tap: new Tap(), events: new Happenings() };
let shownView = "";
let began = null;

// Not the id of an element, which the browser would scroll to and begin the order of focus at.
const hashed = () => location.hash.replace(/^#\/?/, "");

function show(name, focus = false) {
  if (!VIEWS.includes(name)) name = "overview";
  if (shownView && shownView !== name) views[shownView].left?.();
  shownView = name;
  for (const each of VIEWS) {
    const tab = $(`tab-${each}`);
    setAttribute(tab, "aria-selected", String(each === name));
    setAttribute(tab, "tabindex", each === name ? "0" : "-1");
    $(each).hidden = each !== name || !$("sign-in").hidden;
  }
  const tab = $(`tab-${name}`);
  if (focus) tab.focus({ preventScroll: true });
  const [strip, at] = [$("tabs"), tab.offsetLeft - $("tabs").offsetLeft];
  if (at < strip.scrollLeft || at + tab.offsetWidth > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = at - 24;
  if (hashed() !== name) history.replaceState(null, "", `#/${name}`);
  if ($("sign-in").hidden) views[name].shown?.();
}

function walk(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const at = VIEWS.indexOf(shownView) + steps[event.key];
  show(at === -Infinity ? VIEWS[0] : at === Infinity ? VIEWS.at(-1) : VIEWS[(at + VIEWS.length) % VIEWS.length], true);
}

function showLink(state, words) {
  setAttribute($("link"), "data-link", state);
  setText($("link"), state === "lost" ? "Connection lost" : words);
  setText($("banner"), state === "lost" ? words : "");
  $("banner").hidden = state !== "lost";
  document.body.classList.toggle("stale", state === "lost");
}

// However many answers ask for it at the same time, it is shown once, and says what the first of them said.
function signIn(problem) {
  session.removeItem(TOKEN);
  if (!$("sign-in").hidden) return;
  $("sign-in").hidden = false;
  setText($("sign-in-error"), problem);
  showLink("connecting", "Not signed in");
  views[shownView].left?.();
  show(shownView);
  $("token").focus();
}

function takeSample(sample) {
  const { proxy } = sample;
  showLink("live", "Live");
  // A link brings no token along.
  $("pages").hidden = session.getItem(TOKEN) != null;
  // Another process counts its happenings from 1 again.
  const start = sample.time - proxy.uptime;
  if (began != null && Math.abs(start - began) > 2) {
    views.events.forget();
    stream.last = null;
    stream.close();
    began = null;
    return stream.open();
  }
  began = start;
  views.events.live = true;
  setText($("name"), proxy.name);
  setText($("namespace"), proxy.namespace ?? "");
  badge($("state"), STATES[proxy.state], proxy.state);
  setText($("version"), `meshcore ${proxy.version}`);
  document.title = `${proxy.name} · meshcore`;
  for (const name of VIEWS) views[name].sample?.(sample);
}

const stream = new Stream((kind, value) => {
  if (kind === "sample") takeSample(value);
  else if (kind === "happening") views.events.take(value);
});

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  setAttribute(document.documentElement, "data-theme", theme === "system" ? null : theme);
  setText($("theme-word"), `Theme: ${theme}`);
  setAttribute($("theme"), "title", `Theme: ${theme}`);
  local.setItem("meshcore.theme", theme);
  views.overview.shown();
}

for (const name of VIEWS) {
  $(`tab-${name}`).addEventListener("click", () => show(name));
}
$("tabs").addEventListener("keydown", walk);
$("theme").addEventListener("click", () => {
  const now = local.getItem("meshcore.theme") ?? "system";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  session.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  $("sign-in").hidden = true;
  show(shownView);
  stream.close();
  stream.open();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  // The address names the view.
  event.preventDefault();
  $("main").focus();
});
window.addEventListener("hashchange", () => show(hashed()));
window.addEventListener("resize", () => views.overview.shown());
document.addEventListener("visibilitychange", () => {
  if (!$("sign-in").hidden) return;
  if (document.hidden) {
    stream.close();
    views[shownView].left?.();
    showLink("connecting", "Paused");
  } else {
    stream.open();
    views[shownView].shown?.();
  }
});

setTheme(local.getItem("meshcore.theme") ?? "system");
show(hashed());
if (!document.hidden) stream.open();
