"use strict";
// What the pages of all studies share: theme, what is told of the run, the list of clips and its keys. Text from data enters as text only.
const AVS = (() => {
  const $ = (id) => document.getElementById(id);
  const data = window.AVS_DATA;

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }
  const short = (text, most = 60) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
  const name = (text, most) => el("bdi", text.length > (most || 60) ? { title: short(text, 1000) } : {}, short(text, most));
  const breakable = (text) => text.split(/(?<=_)/).flatMap((part, place) => (place ? [el("wbr"), part] : [part]));
  const points = (share) => (100 * share).toFixed(1).replace(/^(?!-)/, "+").replace("-", "−").replace(/^[+−]0\.0$/, "0.0");

  // Theme
  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const remember = (theme) => { try { localStorage.setItem("avs-theme", theme); } catch { /* private window */ } };
  const recalled = () => { try { return localStorage.getItem("avs-theme"); } catch { return null; } };
  const showTheme = () => {
    $("theme").setAttribute("aria-pressed", String(dark()));
    $("theme").textContent = dark() ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", dark() ? "Show in light colours" : "Show in dark colours");
  };
  if (["light", "dark"].includes(recalled())) document.documentElement.dataset.theme = recalled();
  $("theme").removeAttribute("aria-pressed");
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    remember(document.documentElement.dataset.theme);
    showTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  showTheme();

  // The run: what differs between machines and runs
  function table(caption, heads, rows) {
    const wrap = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption });
    const head = el("tr", {}, ...heads.map((text, place) => el("th", { scope: "col", class: place && heads.length === 2 ? "text" : null }, text)));
    const body = rows.map(([first, ...rest]) =>
      el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((text) => el("td", { class: rest.length === 1 ? "text" : null }, text))));
    wrap.append(el("table", { style: "min-width: 0" }, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body)));
    return wrap;
  }
  const flat = (tree, at = "") => Object.entries(tree).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? flat(value, at + key + ".")
      : [[at + key, value === null ? "" : Array.isArray(value) ? value.join(", ") : String(value)]]);

  function showRun(run) {
    const place = $("run-facts");
    place.replaceChildren();
    if (run.results !== data.results) {
      place.append(el("p", { class: "cautions" }, "This page's results are not those of the run described here: python -m avs report brings them together."));
    }
    const { packages = {}, ...environment } = run.environment || {};
    const seconds = Object.entries(run.cost || {}).map(([stage, cost]) =>
      [stage, cost.seconds.toFixed(1), "computed" in cost ? String(cost.computed) : "", String(Math.max(...Object.values(cost.peak_mib)))]);
    place.append(el("div", { class: "columns" },
      table("Environment", ["what", "value"], flat(environment)),
      table("Cost of each stage when it last ran here", ["stage", "seconds", "items computed", "peak MiB"], seconds)));
    place.append(el("details", {}, el("summary", {}, "Parameters"), el("pre", { tabindex: 0 }, flat(run.params || {}).map((pair) => pair.join(": ")).join("\n"))));
    place.append(el("details", {}, el("summary", {}, Object.keys(packages).length + " packages"), el("pre", { tabindex: 0 }, flat(packages).map((pair) => pair.join("==")).join("\n"))));
    if (run.looks && $("looks")) $("looks").textContent = run.looks;
    if (run.seconds_figure && $("seconds") && run.results === data.results) {
      $("seconds").innerHTML = run.seconds_figure; // made by avs/report/figures.py, of no one else's text
      $("seconds").append(el("figcaption", {}, run.seconds_note));
      $("seconds").hidden = false;
    }
  }
  if (window.AVS_RUN) showRun(window.AVS_RUN);

  const options = (select, values, text = (value) => value) =>
    select.append(...values.map((value) => el("option", { value }, short(text(value), 40))));

  // The list of clips. A page says how: `shown()` the items { clip, place, ... } that fit, in their order; `entry(item)` what
  // stands in the list; `count(items)` a line about them; `opened(clip)` another one was chosen; `show(clip, item)` it is
  // to be drawn, item being null where it fits no more; `filters` names of the fields that would hide a clip;
  // `keys` what else keys do; `first(item)`, if there, which items are opened rather than the others before one is chosen.
  function inspector(page) {
    const state = { shown: [], key: null };
    const find = (key) => data.clips.find((clip) => clip.key === key);
    const audio = $("audio");
    $("inspector").hidden = false;
    if ($("more")) $("more").open = !matchMedia("(max-width: 46rem)").matches;

    function refresh() {
      state.shown = page.shown();
      $("list").replaceChildren(...state.shown.map((item) => {
        const node = el("li", { role: "option", id: "clip-" + item.place, "aria-selected": "false" }, ...page.entry(item));
        node.addEventListener("click", () => choose(item.clip.key));
        return node;
      }));
      $("count").textContent = state.shown.length ? page.count(state.shown) : "No clip fits.";
      if (state.shown.length && !state.shown.some((item) => item.clip.key === state.key)) choose((state.shown.find(page.first || (() => true)) || state.shown[0]).clip.key);
      else show();
    }

    function choose(key) {
      const changed = key !== state.key;
      state.key = key;
      if (changed) page.opened(find(key));
      show();
    }

    function remembered() {
      const hash = "#clip=" + encodeURIComponent(state.key);
      $("link").href = hash;
      try { history.replaceState(null, "", hash); } catch { /* some browsers refuse it on disk */ }
    }

    function show() {
      const item = state.shown.find((one) => one.clip.key === state.key) || null;
      for (const node of $("list").children) node.setAttribute("aria-selected", "false");
      const place = state.shown.indexOf(item);
      $("previous").disabled = place <= 0;
      $("next").disabled = place < 0 || place >= state.shown.length - 1;
      if (item) {
        const node = $("clip-" + item.place), list = $("list");
        node.setAttribute("aria-selected", "true");
        list.setAttribute("aria-activedescendant", node.id);
        if (node.offsetTop < list.scrollTop + list.offsetTop) list.scrollTop = node.offsetTop - list.offsetTop;
        const below = node.offsetTop + node.offsetHeight - list.offsetTop - list.clientHeight;
        if (below > list.scrollTop) list.scrollTop = below;
      }
      const clip = find(state.key);
      if (!clip) return;
      $("link").href = "#clip=" + encodeURIComponent(clip.key);
      page.show(clip, item);
    }

    function move(step) {
      const place = state.shown.findIndex((item) => item.clip.key === state.key);
      const next = state.shown[Math.max(0, Math.min(state.shown.length - 1, place + step))];
      if (!next) return;
      choose(next.clip.key);
      remembered();
    }
    const inView = () => {
      const box = $("clip").getBoundingClientRect();
      return box.top < innerHeight && box.bottom > 0;
    };
    const bringIn = () => { if (!inView()) $("clips").scrollIntoView(); };
    const toggle = () => (audio.paused ? audio.play().catch(() => {}) : audio.pause());

    $("previous").addEventListener("click", () => move(-1));
    $("next").addEventListener("click", () => move(1));
    $("list").addEventListener("click", remembered);
    $("list").addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      move(step);
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || $("keys").open) return;
      const at = event.target;
      if (at.closest("input, select, textarea, audio")) return;
      const act = {
        ArrowLeft: at.closest(".scroll, nav") ? null : () => { move(-1); bringIn(); },
        ArrowRight: at.closest(".scroll, nav") ? null : () => { move(1); bringIn(); },
        " ": !inView() || at.closest("button, a, summary") ? null : toggle,
        "/": () => $("search").focus(),
        "?": () => $("keys").showModal(),
        ...page.keys,
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    $("search").addEventListener("input", refresh);
    $("filters").addEventListener("submit", (event) => event.preventDefault());

    function fromAddress() {
      if (!location.hash.startsWith("#clip=")) return;
      let key = "";
      try { key = decodeURIComponent(location.hash.slice(6)); } catch { return; }
      if (!find(key)) return;
      if (!state.shown.some((item) => item.clip.key === key)) {
        for (const id of page.filters) $(id).value = "";
        refresh();
      }
      choose(key);
      $("clips").scrollIntoView();
    }
    addEventListener("hashchange", fromAddress);
    refresh();
    fromAddress();
    return { refresh, show, current: () => find(state.key) };
  }

  return { $, data, el, short, name, breakable, points, options, inspector };
})();
