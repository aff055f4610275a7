// The operators' page: search, story, revocation, what happens now. It calls the service listener
// that it comes from, with a key that stays in this variable.

let key = null;
let query = new URLSearchParams();
let cursor = null;
let stop = new AbortController();

const $ = (id) => document.getElementById(id);
const BATCH = 400;
const MAX_LIVE = 200;
const HEALTH_MS = 5000;
// A node reports every 5 seconds.
const SILENT_SECONDS = 15;
const CONDITIONS = ["user_id", "status", "ip", "device"];
const TIMES = ["created_after", "created_before", "active_after"];

/** Makes an element. What is text stays text. */
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const time = (text) => {
  const at = new Date(text);
  const textContent = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return make("time", { dateTime: text, title: text, textContent });
};

/** A problem of RFC 9457, in words. */
class Problem extends Error {
  constructor(status, body) {
    const errors = (body?.errors ?? []).map(({ field, message }) => `${field} ${message}`);
    super([body?.title ?? `The node responded with ${status}`, ...errors].join("; "));
    this.status = status;
  }
}

const request = async (method, path, body, signal) => {
  const headers = { authorization: `Bearer ${key}` };
  if (body) headers["content-type"] = "application/json";
  const options = { method, headers, body: body && JSON.stringify(body), signal };
  const response = await fetch(path, options);
  if (response.ok) return response;
  throw new Problem(response.status, await response.json().catch(() => null));
};

const call = async (method, path, body) => {
  const response = await request(method, path, body);
  return response.status === 204 ? null : response.json();
};

/** Runs an action of the operator; what goes wrong is reported. */
const act = async (action) => {
  $("error").textContent = "";
  try {
    await action();
  } catch (error) {
    $("error").textContent = error.message;
  }
};

// The key

$("key-form").onsubmit = async (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("entry-error").textContent = "";
  try {
    await call("GET", "/service/v1/sessions?limit=1");
  } catch (error) {
    key = null;
    $("entry-error").textContent = error.message;
    return;
  }
  $("key").value = "";
  $("entry").hidden = true;
  $("console").hidden = $("forget").hidden = false;
  stop = new AbortController();
  follow(stop.signal);
  watchHealth(stop.signal);
  await act(search);
};

$("forget").onclick = () => location.reload();

// Search

const conditions = () => {
  const form = new FormData($("search"));
  const filter = {};
  for (const name of CONDITIONS) if (form.get(name).trim()) filter[name] = form.get(name).trim();
  for (const name of TIMES) {
    if (form.get(name)) filter[name] = new Date(form.get(name)).toISOString();
  }
  return filter;
};

const search = async () => {
  query = new URLSearchParams(conditions());
  cursor = null;
  $("rows").replaceChildren();
  $("revoke-user").disabled = !query.has("user_id");
  await showMore();
};

/** Reads pages until there is something to show: one that examined many sessions may have none. */
const showMore = async () => {
  let page;
  do {
    const from = cursor ? `&cursor=${cursor}` : "";
    page = await call("GET", `/service/v1/sessions?${query}&limit=50${from}`);
    cursor = page.next_cursor;
    $("rows").append(...page.sessions.map(row));
    report();
  } while (cursor && page.sessions.length === 0);
  selected();
};

const report = () => {
  const count = $("rows").rows.length;
  $("more").hidden = !cursor;
  const more = cursor ? "; there are more, or may be" : "";
  $("found").textContent = `${count} ${count === 1 ? "session" : "sessions"}${more}`;
};

const row = (session) => {
  const device = session.name ?? session.device_info ?? "Unknown device";
  const box = make("input", { type: "checkbox", value: session.id, onchange: selected });
  box.ariaLabel = `Select ${device} of ${session.user_id}`;
  box.disabled = session.is_revoked;
  const open = make("button", { type: "button", className: "link", textContent: device });
  open.onclick = () => act(() => showStory(session.id));
  const user = make("button", { type: "button", className: "link", title: session.user_id });
  user.textContent = `${session.user_id.slice(0, 8)}…`;
  user.ariaLabel = `Sessions of user ${session.user_id}`;
  user.onclick = () => {
    $("search").reset();
    $("search").elements.user_id.value = session.user_id;
    act(search);
  };
  const revoke = make("button", { type: "button", className: "danger", textContent: "Revoke" });
  revoke.ariaLabel = `Revoke ${device} of ${session.user_id}`;
  revoke.disabled = session.is_revoked;
  revoke.onclick = () => act(() => revokeOne(session, device));
  const place = make("small", { textContent: session.location ? ` ${session.location}` : "" });
  const cells = [
    box, open, make("span", { className: session.status, textContent: session.status }), user,
    make("span", {}, session.last_ip_address ?? session.ip_address ?? "", place),
    time(session.created_at), time(session.last_activity_at), revoke,
  ];
  return make("tr", { id: session.id }, ...cells.map((cell) => make("td", {}, cell)));
};

const selectedIds = () =>
  [...$("rows").querySelectorAll("input:checked")].map((box) => box.value).slice(0, BATCH);

const selected = () => {
  $("revoke-selected").disabled = selectedIds().length === 0;
};

$("search").onsubmit = (event) => {
  event.preventDefault();
  act(search);
};
$("more").onclick = () => act(showMore);

// The story of a session

const showStory = async (id) => {
  const session = await call("GET", `/service/v1/sessions/${id}`);
  const facts = [];
  for (const [name, value] of Object.entries(session)) {
    if (value === null || ["is_revoked", "is_current", "device"].includes(name)) continue;
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    const shown = name.endsWith("_at") ? time(text) : text;
    facts.push(make("dt", { textContent: name }), make("dd", {}, shown));
  }
  $("facts").replaceChildren(...facts);
  let after = 0;
  $("events").replaceChildren();
  for (;;) {
    const path = `/service/v1/events?session_id=${id}&after=${after}&limit=1000`;
    const page = await call("GET", path);
    $("events").append(...page.events.map(entry));
    if (page.events.length < 1000) break;
    after = page.next_after;
  }
  $("story").hidden = false;
  $("story").scrollIntoView({ block: "nearest" });
};

/** What happened, by whom and why. */
const entry = (event) => {
  const who = event.actor ? ` by ${event.actor}` : "";
  const why = event.reason ? `: ${event.reason}` : "";
  const kind = make("strong", { className: event.type, textContent: event.type });
  return make("li", {}, time(event.at), " ", kind, `${who}${why}`);
};

// Revocation

/** Asks for the reason, and for a word where much is at stake; returns the reason or null. */
const confirm = (title, text, word = "") => {
  const dialog = $("dialog");
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = text;
  $("word-label").hidden = !word;
  $("word-wanted").textContent = word;
  $("word").value = $("reason").value = "";
  const check = () => ($("confirm").disabled = $("word").value !== word);
  $("word").oninput = check;
  check();
  dialog.returnValue = "";
  $("cancel").onclick = () => dialog.close();
  $("dialog-form").onsubmit = () => (dialog.returnValue = "confirmed");
  $("confirm").value = "confirmed";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () =>
      resolve(dialog.returnValue === "confirmed" ? $("reason").value.trim() : null);
  });
};

const counted = (count, noun = "session") => `${count} ${noun}${count === 1 ? "" : "s"}`;

const revokeOne = async (session, device) => {
  const reason = await confirm(`Revoke ${device}?`, `The session of user ${session.user_id}.`);
  if (reason === null) return;
  await call("DELETE", `/service/v1/sessions/${session.id}`, { reason });
  await search();
};

/** Counts first what a call would revoke, asks, and revokes. */
const revokeMany = async (title, target, word) => {
  const path = "/service/v1/sessions/revoke";
  const { revoked_count: count } = await call("POST", path, { ...target, dry_run: true });
  const text = `${counted(count)} would be revoked now, on every node, before this page says so.`;
  const reason = await confirm(title, text, word);
  if (reason === null) return;
  const { revoked_count: revoked } = await call("POST", path, { ...target, reason });
  await search();
  $("found").textContent += `. ${counted(revoked)} revoked.`;
};

$("revoke-selected").onclick = () =>
  act(() => revokeMany("Revoke the selected sessions?", { ids: selectedIds() }));
$("revoke-matching").onclick = () =>
  act(() => {
    const filter = conditions();
    if (Object.keys(filter).length === 0) throw new Error("Search for something first.");
    return revokeMany("Revoke all sessions that match?", { filter });
  });
$("revoke-user").onclick = () =>
  act(() => {
    const { user_id } = conditions();
    if (!user_id) throw new Error("Name a user first.");
    return revokeMany("Revoke all sessions of this user?", { filter: { user_id } });
  });
$("revoke-all").onclick = () =>
  act(() => revokeMany("Revoke the sessions of all users?", { all: true }, "all users"));

// What happens now

const follow = async (signal) => {
  let after = "newest";
  for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, 30000)) {
    try {
      const path = `/service/v1/events/stream?after=${after}`;
      const response = await request("GET", path, undefined, signal);
      $("live-status").textContent = "Sign-ins and revocations of all users, as they happen.";
      wait = 1000;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const events = (text + value).split("\n\n");
        text = events.pop();
        for (const event of events) {
          const data = /^data: ?(.*)$/m.exec(event)?.[1];
          if (!data) continue;
          const happened = JSON.parse(data);
          after = happened.id;
          showLive(happened);
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      $("live-status").textContent = `${error.message}. Trying again…`;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
};

const showLive = (event) => {
  const item = entry(event);
  const open = make("button", { type: "button", className: "link", textContent: event.session_id });
  open.onclick = () => act(() => showStory(event.session_id));
  item.append(" ", open);
  $("live").prepend(item);
  while ($("live").children.length > MAX_LIVE) $("live").lastChild.remove();
};

// Health

const watchHealth = async (signal) => {
  while (!signal.aborted) {
    try {
      const response = await request("GET", "/service/v1/nodes", null, signal);
      showNodes((await response.json()).nodes);
    } catch (error) {
      $("health").textContent = error.status ? error.message : "The node does not respond.";
    }
    await new Promise((resolve) => setTimeout(resolve, HEALTH_MS));
  }
};

const isSilent = (node) => node.reported_seconds_ago > SILENT_SECONDS;

const showNodes = (nodes) => {
  const ready = nodes.filter((node) => node.ready && !isSilent(node)).length;
  $("health").textContent = ready === nodes.length
    ? `Ready: ${counted(ready, "node")}`
    : `Ready: ${ready} of ${counted(nodes.length, "node")}`;
  $("nodes").replaceChildren(...nodes.map(nodeRow));
};

const nodeRow = (node) => {
  const all = Object.values(node.reads).reduce((sum, count) => sum + count, 0);
  const shares = Object.entries(node.reads).map(([layer, count]) =>
    `${layer} ${all ? Math.round((100 * count) / all) : 0} %`);
  const silence = `no report for ${Math.round(node.reported_seconds_ago)} s`;
  return make("tr", { title: node.id },
    make("td", { textContent: node.host }),
    make("td", { textContent: isSilent(node) ? silence : node.ready ? "ready" : "not ready" }),
    make("td", { textContent: node.cache }),
    make("td", { textContent: node.cached_sessions }),
    make("td", { textContent: shares.join(", ") }),
    make("td", { textContent: `${Math.round(node.poll_age_seconds * 1000)} ms` }),
    make("td", { textContent: node.version }),
    make("td", {}, time(node.started_at)));
};
