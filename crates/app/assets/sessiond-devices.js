// <sessiond-devices>: shows a user the devices that are signed in, and signs them out.
//
//   <script type="module" src="https://sessions.example.com/assets/sessiond-devices.js"></script>
//   <sessiond-devices api="https://sessions.example.com"></sessiond-devices>
//
// Attributes: `api` (base URL of the public listener; default: this page's origin), `lang`.
// Properties: `getToken` (async function that returns a bearer token; without it, the session
// cookie is sent), `texts` (object that replaces texts; `language` in it is for dates).
// Method: `refresh()`.
// Events: `sessiond-revoked` (`detail.id`), `sessiond-signed-out` (this device, from anywhere).
// Style it by `::part(...)` and the custom properties `--sessiond-*` below.

const TEXTS = {
  en: {
    title: "Your devices", current: "This device", unknown: "Unknown device",
    signedIn: "Signed in {ago}", active: "Active {ago}", now: "Active now",
    signOut: "Sign out", signOutOf: "Sign out {device}",
    signOutOthers: "Sign out all other devices",
    confirmText: "They will have to sign in again.", cancel: "Cancel",
    rename: "Rename {device}", name: "Name of this device", save: "Save",
    done: "{device} is signed out.", doneOthers: "All other devices are signed out.",
    more: "Show more", loading: "Loading…",
    signedOut: "This device is signed out.", offline: "No connection. Trying again…",
    failed: "That did not work. Please try again.",
  },
  de: {
    title: "Ihre Geräte", current: "Dieses Gerät", unknown: "Unbekanntes Gerät",
    signedIn: "Angemeldet {ago}", active: "Aktiv {ago}", now: "Jetzt aktiv",
    signOut: "Abmelden", signOutOf: "{device} abmelden",
    signOutOthers: "Alle anderen Geräte abmelden",
    confirmText: "Dort ist dann eine neue Anmeldung nötig.", cancel: "Abbrechen",
    rename: "{device} umbenennen", name: "Name dieses Geräts", save: "Speichern",
    done: "{device} ist abgemeldet.", doneOthers: "Alle anderen Geräte sind abgemeldet.",
    more: "Mehr anzeigen", loading: "Wird geladen…",
    signedOut: "Dieses Gerät ist abgemeldet.", offline: "Keine Verbindung. Neuer Versuch…",
    failed: "Das hat nicht geklappt. Bitte noch einmal versuchen.",
  },
  fr: {
    title: "Vos appareils", current: "Cet appareil", unknown: "Appareil inconnu",
    signedIn: "Connecté {ago}", active: "Actif {ago}", now: "Actif maintenant",
    signOut: "Déconnecter", signOutOf: "Déconnecter {device}",
    signOutOthers: "Déconnecter tous les autres appareils",
    confirmText: "Une nouvelle connexion y sera nécessaire.", cancel: "Annuler",
    rename: "Renommer {device}", name: "Nom de cet appareil", save: "Enregistrer",
    done: "{device} est déconnecté.", doneOthers: "Tous les autres appareils sont déconnectés.",
    more: "Afficher plus", loading: "Chargement…",
    signedOut: "Cet appareil est déconnecté.", offline: "Pas de connexion. Nouvel essai…",
    failed: "Cela n’a pas fonctionné. Veuillez réessayer.",
  },
  es: {
    title: "Tus dispositivos", current: "Este dispositivo", unknown: "Dispositivo desconocido",
    signedIn: "Sesión iniciada {ago}", active: "Activo {ago}", now: "Activo ahora",
    signOut: "Cerrar sesión", signOutOf: "Cerrar sesión en {device}",
    signOutOthers: "Cerrar sesión en los demás dispositivos",
    confirmText: "Allí habrá que iniciar sesión de nuevo.", cancel: "Cancelar",
    rename: "Cambiar el nombre de {device}", name: "Nombre de este dispositivo", save: "Guardar",
    done: "Sesión cerrada en {device}.", doneOthers: "Sesión cerrada en los demás dispositivos.",
    more: "Mostrar más",
    loading: "Cargando…", signedOut: "La sesión de este dispositivo está cerrada.",
    offline: "Sin conexión. Reintentando…", failed: "No ha funcionado. Inténtalo de nuevo.",
  },
  ja: {
    title: "お使いのデバイス", current: "このデバイス", unknown: "不明なデバイス",
    signedIn: "サインイン：{ago}", active: "最終利用：{ago}", now: "使用中",
    signOut: "サインアウト", signOutOf: "{device}をサインアウト",
    signOutOthers: "他のデバイスをすべてサインアウト",
    confirmText: "再度サインインが必要になります。", cancel: "キャンセル",
    rename: "{device}の名前を変更", name: "このデバイスの名前", save: "保存",
    done: "{device}をサインアウトしました。", doneOthers: "他のデバイスをすべてサインアウトしました。",
    more: "もっと見る", loading: "読み込み中…",
    signedOut: "このデバイスはサインアウトされました。", offline: "接続できません。再試行しています…",
    failed: "うまくいきませんでした。もう一度お試しください。",
  },
};

const STYLE = `
:host { color-scheme: light dark; display: block; container-type: inline-size;
  --bg: var(--sessiond-background, light-dark(#fff, #1b1d21));
  --fg: var(--sessiond-text, light-dark(#1c1e21, #e8eaed));
  --muted: var(--sessiond-muted, light-dark(#5c626b, #a8adb6));
  --line: var(--sessiond-border, light-dark(#d5d9df, #3c4047));
  --accent: var(--sessiond-accent, light-dark(#1a5fd0, #8ab4f8));
  --danger: var(--sessiond-danger, light-dark(#b3261e, #f2b8b5));
  --radius: var(--sessiond-radius, 12px);
  color: var(--fg); font: var(--sessiond-font, 1rem/1.45 system-ui, sans-serif) }
* { box-sizing: border-box }
h2 { font-size: 1.35em; margin: 0 0 .75em }
ul { list-style: none; margin: 0; padding: 0; background: var(--bg); border: 1px solid var(--line);
  border-radius: var(--radius) }
ul:empty { display: none }
li { display: grid; grid-template-columns: auto 1fr auto; gap: .25em 1em; align-items: center;
  padding: .9em 1.1em }
li + li { border-top: 1px solid var(--line) }
.icon { position: relative; inline-size: 2.5em; block-size: 2.5em; color: var(--muted) }
.icon svg { inline-size: 100%; fill: none; stroke: currentColor; stroke-width: 1.5 }
.icon b { position: absolute; inset-block-end: -.3em; inset-inline-end: -.4em;
  min-inline-size: 1.7em; font-size: .7em; line-height: 1.7em; text-align: center;
  border-radius: 1em; background: var(--accent); color: var(--bg) }
.text { min-inline-size: 0; overflow-wrap: anywhere }
.head { display: flex; flex-wrap: wrap; align-items: center; column-gap: .5em }
.name { font-weight: 600 } .badge { color: var(--accent); font-size: .85em; font-weight: 600 }
.details { color: var(--muted); font-size: .9em }
button { font: inherit; color: var(--accent); background: none; border: 1px solid var(--line);
  border-radius: 2em; padding: .45em 1em; min-block-size: 2.75em; cursor: pointer }
button:hover { border-color: currentColor }
:focus-visible { outline: 3px solid var(--accent) }
.sign-out-others, .confirm { color: var(--danger) }
.rename { border: 0; padding: .2em .5em; min-block-size: 2em }
form { display: flex; flex-wrap: wrap; gap: .5em }
input { font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--muted);
  border-radius: 8px; padding: .45em .6em; min-inline-size: 0; flex: 1 1 9em }
.foot { display: flex; flex-wrap: wrap; gap: .75em; margin-block: 1em }
[role=status], [role=alert] { margin-block: .75em } [role=alert] { color: var(--danger) }
p:empty { display: none }
dialog { color: var(--fg); background: var(--bg); border: 1px solid var(--line);
  border-radius: var(--radius); max-inline-size: min(26em, 90vw); padding: 1.5em }
dialog::backdrop { background: rgb(0 0 0 / .5) }
dialog h2 { font-size: 1.1em } dialog .foot { justify-content: end; margin-block-end: 0 }
@container (max-width: 26em) { li { grid-template-columns: auto 1fr }
  li > button { grid-column: 2; justify-self: start } }
`;

const ICONS = {
  desktop: "M3 5h18v11H3zM8 20h8M12 16v4",
  mobile: "M8 3h8v18H8zM11 18h2",
  tablet: "M5 3h14v18H5zM11 18h2",
  tv: "M2 6h20v12H2zM8 21h8",
  bot: "M5 9h14v10H5zM12 5v4M9 13v2M15 13v2",
  unknown: "M3 12a9 9 0 1 0 18 0a9 9 0 1 0-18 0M10 9.5a2 2 0 1 1 2 2.5v1.5M12 16v1",
};

const PAGE_SIZE = 50;
const UNITS = [
  ["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60],
];

/** Makes an element. What is text stays text: a device's name is the user's own. */
const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const button = (part, textContent, onclick, rest) =>
  make("button", {
    type: "button", part: `button ${part}`, className: part, textContent, onclick, ...rest,
  });

class Refused extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

export class SessiondDevices extends HTMLElement {
  static observedAttributes = ["api", "lang"];

  #getToken;
  #texts = {};
  #sessions = new Map();
  #rows = new Map();
  #cursor = null;
  #pages = 1;
  #retries = 0;
  #stop = new AbortController();
  #refreshing = null;
  #again = false;
  #isOver = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    this.title_ = make("h2", { part: "title" });
    const live = (role) => make("p", { part: role, role });
    this.status_ = live("status");
    this.alert_ = live("alert");
    this.list_ = make("ul", { part: "list" });
    this.more_ = button("more", "", () => this.#showMore(), { hidden: true });
    this.others_ = button("sign-out-others", "", () => this.#signOutOthers(), { hidden: true });
    const foot = make("div", { className: "foot" }, this.more_, this.others_);
    root.append(this.title_, this.alert_, this.list_, this.status_, foot);
  }

  /** Replaces texts, such as `{ title: "Sessions" }`; those that are absent stay. */
  set texts(texts) {
    this.#texts = texts ?? {};
    this.#render();
  }

  get texts() {
    return this.#texts;
  }

  /** Returns a bearer token, or a promise of one; without it, the session cookie is sent. */
  set getToken(getToken) {
    this.#getToken = getToken;
    this.#restart();
  }

  get getToken() {
    return this.#getToken;
  }

  connectedCallback() {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const refresh = () => document.visibilityState === "visible" && this.refresh();
    addEventListener("online", refresh, { signal });
    document.addEventListener("visibilitychange", refresh, { signal });
    const minute = setInterval(() => this.#render(), 60000);
    signal.onabort = () => clearInterval(minute);
    this.#isOver = false;
    this.#render();
    this.status_.textContent = this.#text("loading");
    // The modules of the page have run by then, and may have set `getToken`.
    if (document.readyState === "complete") queueMicrotask(() => this.#follow(signal));
    else addEventListener("load", () => this.#follow(signal), { once: true, signal });
  }

  disconnectedCallback() {
    this.#stop.abort();
  }

  attributeChangedCallback() {
    this.#restart();
  }

  #restart() {
    if (!this.isConnected) return;
    this.disconnectedCallback();
    this.#sessions.clear();
    this.connectedCallback();
  }

  /** Reads the list again. One request at a time, and one more if it was asked for meanwhile. */
  async refresh() {
    if (this.#isOver) return;
    if (this.#refreshing) {
      this.#again = true;
      return this.#refreshing;
    }
    this.#refreshing = this.#read().finally(() => (this.#refreshing = null));
    await this.#refreshing;
    if (this.#again) {
      this.#again = false;
      await this.refresh();
    }
  }

  async #read() {
    try {
      const sessions = new Map();
      const add = (session) => sessions.set(session.id, session);
      add(await this.#call("GET", "/current"));
      let cursor = null;
      let page;
      for (let n = 0; n < this.#pages; n += 1) {
        const from = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
        page = await this.#call("GET", `?active_only=true&limit=${PAGE_SIZE}${from}`);
        page.sessions.forEach((session) => sessions.has(session.id) || add(session));
        cursor = page.next_cursor;
        if (!cursor) break;
      }
      this.#cursor = cursor;
      this.#sessions = sessions;
      this.#retries = 0;
      this.alert_.textContent = "";
      if (this.status_.textContent === this.#text("loading")) this.status_.textContent = "";
      this.#render();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Reads the stream of changes until the element is removed or the session has ended. */
  async #follow(signal) {
    while (!signal.aborted && !this.#isOver) {
      try {
        const response = await this.#fetch("GET", "/watch", undefined, signal);
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          text += value;
          const events = text.split("\n\n");
          text = events.pop();
          for (const event of events) this.#received(/^event: ?(.*)$/m.exec(event)?.[1]);
        }
      } catch (error) {
        if (!signal.aborted) this.#failed(error);
      }
      if (signal.aborted || this.#isOver) return;
      const wait = Math.min(1000 * 2 ** this.#retries++, 30000);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        for (const [target, name] of [[window, "online"], [signal, "abort"]]) {
          target.addEventListener(name, () => (clearTimeout(timer), resolve()), { once: true });
        }
      });
    }
  }

  #received(event) {
    if (event === "live" || event === "changed") this.refresh();
    if (event === "revoked" || event === "expired") this.#over();
  }

  async #fetch(method, path, body, signal = this.#stop.signal) {
    const headers = body ? { "content-type": "application/json" } : {};
    const token = await this.#getToken?.();
    if (token) headers.authorization = `Bearer ${token}`;
    const url = `${(this.getAttribute("api") ?? "").replace(/\/$/, "")}/api/v1/sessions${path}`;
    const credentials = token ? "omit" : "include";
    body &&= JSON.stringify(body);
    const options = { method, headers, body, credentials, signal, cache: "no-store" };
    const response = await fetch(url, options);
    if (!response.ok) throw new Refused(response.status);
    return response;
  }

  async #call(method, path, body) {
    const response = await this.#fetch(method, path, body);
    return response.status === 204 ? null : response.json();
  }

  #failed(error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) return this.#over();
    const isRefused = error.status && error.status < 500 && error.status !== 429;
    this.alert_.textContent = this.#text(isRefused ? "failed" : "offline");
    if (this.status_.textContent === this.#text("loading")) this.status_.textContent = "";
  }

  /** This device is signed out: nothing is shown, and nothing is asked any more. */
  #over() {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sessions.clear();
    this.#cursor = null;
    this.alert_.textContent = "";
    this.#render();
    this.status_.textContent = this.#text("signedOut");
    this.#stop.abort();
    this.#notify("sessiond-signed-out");
  }

  #notify(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { bubbles: true, composed: true, detail }));
  }

  get #language() {
    const wanted = [this.closest("[lang]")?.lang, ...navigator.languages].filter(Boolean);
    return this.#texts.language ?? wanted.find((tag) => tag.split("-")[0] in TEXTS) ?? "en";
  }

  #text(key, values = {}) {
    const texts = { ...TEXTS.en, ...TEXTS[this.#language.split("-")[0]], ...this.#texts };
    return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  #ago(time) {
    const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
    const [unit, length] = UNITS.find(([, length]) => seconds >= length) ?? ["minute", 60];
    const format = new Intl.RelativeTimeFormat(this.#language, { numeric: "auto" });
    return format.format(-Math.floor(seconds / length), unit);
  }

  #label(session) {
    return session.name ?? session.device_info ?? this.#text("unknown");
  }

  #render() {
    const language = this.#language;
    this.title_.textContent = this.#text("title");
    this.more_.textContent = this.#text("more");
    this.more_.hidden = !this.#cursor;
    const others = [...this.#sessions.values()].some((session) => !session.is_current);
    this.others_.textContent = this.#text("signOutOthers");
    this.others_.hidden = !others;
    this.list_.lang = language;
    this.list_.ariaLabel = this.#text("title");
    for (const [id, row] of this.#rows) {
      if (!this.#sessions.has(id)) {
        // Focus must not be lost with the row that had it.
        if (row.contains(this.shadowRoot.activeElement)) {
          const next = row.nextSibling ?? row.previousSibling ?? this.shadowRoot;
          next.querySelector(".sign-out")?.focus();
        }
        row.remove();
        this.#rows.delete(id);
      }
    }
    let before = null;
    for (const session of this.#sessions.values()) {
      const row = this.#rows.get(session.id) ?? make("li");
      this.#rows.set(session.id, row);
      const minute = Math.floor(Date.now() / 60000);
      const shown = JSON.stringify([session, language, this.#texts, minute]);
      if (row.shown !== shown && !row.querySelector("form")) {
        row.shown = shown;
        this.#fill(row, session);
      }
      if ((before ? before.nextSibling : this.list_.firstChild) !== row) {
        before ? before.after(row) : this.list_.prepend(row);
      }
      before = row;
    }
  }

  #fill(row, session) {
    const active = this.shadowRoot.activeElement;
    const focused = row.contains(active) && active.className;
    const device = this.#label(session);
    row.part = session.is_current ? "item current" : "item";
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    const path = document.createElementNS(svg.namespaceURI, "path");
    path.setAttribute("d", ICONS[session.device?.type] ?? ICONS.unknown);
    svg.append(path);
    const icon = make("span", { className: "icon", part: "icon", ariaHidden: "true" }, svg);
    const browser = session.device?.browser;
    if (browser) icon.append(make("b", { textContent: browser[0] }));
    const rename = button("rename", "✎", () => this.#edit(row, session), {
      ariaLabel: this.#text("rename", { device }),
    });
    const name = make("bdi", { className: "name", part: "name", textContent: device });
    const head = make("div", { className: "head" }, name);
    if (session.is_current) {
      const textContent = this.#text("current");
      head.append(make("span", { className: "badge", part: "badge", textContent }));
    }
    head.append(rename);
    const details = make("div", { className: "details", part: "details" });
    const add = (textContent, title = "") =>
      textContent &&
      details.append(details.firstChild ? " · " : "", make("bdi", { textContent, title }));
    if (session.name) add(session.device_info);
    add(session.location, session.last_ip_address ?? "");
    const { created_at: created, last_activity_at: last } = session;
    const at = (time) => new Date(time).toLocaleString(this.#language);
    const isNow = session.is_current || Date.now() - Date.parse(last) < 60000;
    add(isNow ? this.#text("now") : this.#text("active", { ago: this.#ago(last) }), at(last));
    add(this.#text("signedIn", { ago: this.#ago(created) }), at(created));
    const out = button("sign-out", this.#text("signOut"), () => this.#signOut(session), {
      ariaLabel: this.#text("signOutOf", { device }),
    });
    row.replaceChildren(icon, make("div", { className: "text" }, head, details), out);
    if (focused) row.querySelector(`.${focused}`)?.focus();
  }

  #edit(row, session) {
    const input = make("input", { part: "input", value: session.name ?? "", maxLength: 64 });
    input.ariaLabel = this.#text("name");
    const save = button("save", this.#text("save"), null, { type: "submit" });
    const cancel = button("cancel", this.#text("cancel"), () => close());
    const form = make("form", { part: "form" }, input, save, cancel);
    const close = () => {
      form.remove();
      this.#fill(row, this.#sessions.get(session.id) ?? session);
      row.querySelector(".rename")?.focus();
    };
    form.onkeydown = (event) => {
      if (event.key === "Escape") close();
    };
    form.onsubmit = async (event) => {
      event.preventDefault();
      const body = { name: input.value.trim() || null };
      const changed = await this.#try(() => this.#call("PATCH", `/${session.id}`, body));
      if (!changed) return;
      this.#sessions.set(session.id, changed);
      close();
    };
    row.querySelector(".head").replaceChildren(form);
    input.focus();
    input.select();
  }

  async #signOut(session) {
    const device = this.#label(session);
    if (session.is_current && !(await this.#confirm(this.#text("signOutOf", { device })))) return;
    const path = session.is_current ? "/current" : `/${session.id}`;
    const isDone = await this.#try(async () => (await this.#call("DELETE", path), true));
    if (!isDone) return;
    this.#notify("sessiond-revoked", { id: session.id });
    if (session.is_current) return this.#over();
    this.#sessions.delete(session.id);
    this.status_.textContent = this.#text("done", { device });
    this.#render();
    await this.refresh();
  }

  async #signOutOthers() {
    if (!(await this.#confirm(this.#text("signOutOthers"), this.#text("confirmText")))) return;
    if (!(await this.#try(() => this.#call("DELETE", "")))) return;
    for (const [id, session] of this.#sessions) if (!session.is_current) this.#sessions.delete(id);
    this.#cursor = null;
    this.#pages = 1;
    this.status_.textContent = this.#text("doneOthers");
    this.#render();
    await this.refresh();
  }

  async #showMore() {
    this.#pages += 1;
    await this.refresh();
  }

  /** Returns what the call returns; if it fails, says so and returns nothing. */
  async #try(call) {
    try {
      const result = await call();
      this.alert_.textContent = "";
      return result;
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  /** Asks in a modal dialog: the browser holds the focus in it, and Escape cancels. */
  #confirm(question, explanation = "") {
    const dialog = make("dialog", { part: "dialog", ariaLabel: question });
    const no = button("cancel", this.#text("cancel"), () => dialog.close());
    const yes = button("confirm", this.#text("signOut"), () => dialog.close("yes"));
    const foot = make("div", { className: "foot" }, no, yes);
    const title = make("h2", { textContent: question });
    dialog.append(title, make("p", { textContent: explanation }), foot);
    this.shadowRoot.append(dialog);
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.onclose = () => {
        dialog.remove();
        resolve(dialog.returnValue === "yes");
      };
    });
  }
}

customElements.define("sessiond-devices", SessiondDevices);
