/* Time left of a session, in JupyterLab: a line in the status bar, warnings before the end, and its extension.
 *
 * Written as the container that JupyterLab's module federation loads (`init`, then `get`), without a build
 * step: all it needs of others are JupyterLab's own shared modules. */
(() => {
  "use strict";

  const LOOK_MS = 30000;
  const WARN_AT_MIN = [30, 5];
  let shared = {};

  /** One of JupyterLab's shared modules; the newest where there are several. */
  async function load(name) {
    const versions = Object.keys(shared[name] || {}).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    if (!versions.length) throw new Error(`JupyterLab does not share ${name}`);
    return (await shared[name][versions.at(-1)].get())();
  }

  /** "3 h 20 min", "12 min", "less than a minute". */
  function inWords(seconds) {
    const minutes = Math.floor(seconds / 60);
    if (minutes < 1) return "less than a minute";
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours >= 48) return `${Math.floor(hours / 24)} days`;
    return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  }

  /** The sentence of the status bar. */
  function headline(life) {
    if (life.contact === "unknown") return "Session not known any more: save your work";
    if (life.seconds_left === null) return "";
    const left = `${inWords(life.seconds_left)} left`;
    if (life.idle_stop_in_s !== null) return `Stops in ${inWords(life.idle_stop_in_s)}: nothing happens`;
    return life.contact === "offline" ? `${left} (platform does not answer)` : left;
  }

  /** What can be read on a click: one sentence a line. */
  function details(life) {
    const lines = [];
    if (life.expires_at !== null)
      lines.push(`This session ends ${new Date(life.expires_at).toLocaleString()}, in ${inWords(life.seconds_left)}.`);
    if (life.extends_by_s) lines.push(`It can be extended by ${inWords(life.extends_by_s)}.`);
    else if (life.why_not) lines.push(life.why_not);
    if (!life.rights_hold) lines.push("A right that it needs has ended: it is stopped soon. Save your work.");
    else if (life.right_ends_in_s !== null) lines.push(`A right that it needs ends in ${inWords(life.right_ends_in_s)}.`);
    if (life.idle_stop_in_s !== null)
      lines.push(`Nothing happens in it, so it is stopped in ${inWords(life.idle_stop_in_s)} unless something does.`);
    if (life.is_rescue) lines.push("Your home is full: this session keeps its own files in memory. Clear some space.");
    if (life.contact === "offline") lines.push("The platform does not answer now; this is what it said last.");
    return lines.concat(life.notes || []);
  }

  function activate(parts, app, statusBar) {
    const { ServerConnection, URLExt, Dialog, showDialog, Notification, Widget } = parts;
    const settings = app.serviceManager.serverSettings;
    const told = new Set();
    let life = null;
    let idleNotice = null;
    let endNotice = null;

    async function ask(path, method = "GET") {
      const url = URLExt.join(settings.baseUrl, "beamhub", path) + "?no_track_activity=1";
      const answer = await ServerConnection.makeRequest(url, { method }, settings);
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.message || `The server answered ${answer.status}.`);
      return body;
    }

    const item = new Widget();
    const button = document.createElement("button");
    button.type = "button";
    button.className = "jp-beamhub-time jp-StatusBar-TextItem";
    button.style.cssText = "all:unset;cursor:pointer;padding:0 6px;line-height:24px;font-size:var(--jp-ui-font-size1)";
    button.title = "Time left of this session";
    button.addEventListener("focus", () => { button.style.outline = "1px solid currentColor"; });
    button.addEventListener("blur", () => { button.style.outline = "none"; });
    button.addEventListener("click", () => void show());
    item.node.appendChild(button);
    if (statusBar) statusBar.registerStatusItem("beamhub-session:time", { item, align: "right", rank: 30 });

    async function extend() {
      try {
        life = await ask("life/extend", "POST");
        told.clear();
        if (endNotice !== null) Notification.dismiss(endNotice);
        endNotice = null;
        Notification.success(`The session goes on: ${inWords(life.seconds_left)} left.`, { autoClose: 8000 });
      } catch (error) {
        Notification.error(String(error.message || error), { autoClose: false });
      }
      paint();
    }

    async function keep() {
      try {
        life = await ask("life/keep", "POST");
      } catch (error) {
        Notification.error("The server does not answer. Work in a notebook keeps it running, too.");
      }
      paint();
    }

    async function show() {
      await look();
      if (life === null) return;
      const body = new Widget();
      body.id = "beamhub-session-details";
      for (const line of details(life)) {
        const text = document.createElement("p");
        text.textContent = line;
        body.node.appendChild(text);
      }
      const buttons = [Dialog.cancelButton({ label: "Close" })];
      if (life.extends_by_s) buttons.push(Dialog.okButton({ label: `Extend by ${inWords(life.extends_by_s)}` }));
      const result = await showDialog({ title: "This session", body, buttons });
      if (result.button.accept) await extend();
    }

    function warn() {
      const minutes = life.seconds_left === null ? Infinity : life.seconds_left / 60;
      const due = WARN_AT_MIN.filter((limit) => minutes <= limit);
      const nearest = due.at(-1);
      const key = nearest === undefined ? null : `${life.expires_at} ${nearest}`;
      if (key !== null && !told.has(key)) {
        due.forEach((limit) => told.add(`${life.expires_at} ${limit}`));
        const said = `This session ends in ${inWords(life.seconds_left)}. Save your work.`;
        const actions = life.extends_by_s
          ? [{ label: `Extend by ${inWords(life.extends_by_s)}`, displayType: "accent", callback: () => void extend() }]
          : [];
        if (endNotice !== null) Notification.dismiss(endNotice);
        endNotice = Notification.warning(actions.length ? said : `${said} ${life.why_not}`.trim(), { autoClose: false, actions });
      }
      if (!life.rights_hold && !told.has("rights")) {
        told.add("rights");
        Notification.error("A right that this session needs has ended: it is stopped soon. Save your work.", { autoClose: false });
      }
      if (life.idle_stop_in_s !== null && idleNotice === null) {
        idleNotice = Notification.warning(
          `Nothing happens in this session, so it is stopped in ${inWords(life.idle_stop_in_s)}.`,
          { autoClose: false, actions: [{ label: "Keep it running", displayType: "accent", callback: () => void keep() }] }
        );
      } else if (life.idle_stop_in_s === null && idleNotice !== null) {
        Notification.dismiss(idleNotice);
        idleNotice = null;
      }
    }

    function paint() {
      if (life === null) return;
      button.textContent = headline(life);
      button.setAttribute("aria-label", `${headline(life)}. Details of this session`);
      item.setHidden(headline(life) === "");
    }

    async function look() {
      try {
        life = await ask("life");
      } catch {
        return; // Lab itself says when its server is gone
      }
      paint();
      warn();
    }

    void look();
    const timer = setInterval(() => void look(), LOOK_MS);
    app.commands.addCommand("beamhub-session:show", { label: "Time Left of This Session", execute: show });
    app.commands.addCommand("beamhub-session:extend", {
      label: "Extend This Session",
      isEnabled: () => life !== null && Boolean(life.extends_by_s),
      execute: extend,
    });
    app.commands.addCommand("beamhub-session:clusters", {
      label: "Clusters of This Session",
      execute: () => void window.open(URLExt.join(settings.baseUrl, "beamhub", "clusters"), "_blank", "noopener"),
    });
    window.addEventListener("pagehide", () => clearInterval(timer));
  }

  async function build() {
    const [{ IStatusBar }, { ICommandPalette, Dialog, showDialog, Notification }, { ServerConnection }, { URLExt }, { Widget }] =
      await Promise.all([
        load("@jupyterlab/statusbar"),
        load("@jupyterlab/apputils"),
        load("@jupyterlab/services"),
        load("@jupyterlab/coreutils"),
        load("@lumino/widgets"),
      ]);
    const parts = { ServerConnection, URLExt, Dialog, showDialog, Notification, Widget };
    const plugin = {
      id: "beamhub-session:time",
      description: "Shows the time left of a session, warns before its end, and extends it.",
      autoStart: true,
      optional: [IStatusBar, ICommandPalette],
      activate: (app, statusBar, palette) => {
        activate(parts, app, statusBar);
        for (const name of ["show", "extend", "clusters"])
          if (palette) palette.addItem({ command: `beamhub-session:${name}`, category: "Session" });
      },
    };
    return () => ({ __esModule: true, default: [plugin] });
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["beamhub-session"] = {
    init: (scope) => { shared = scope; },
    get: (name) => (name === "./extension" ? build() : Promise.reject(new Error(`There is no module ${name}`))),
  };
})();
