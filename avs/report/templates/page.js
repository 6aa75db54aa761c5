"use strict";
// The AVS page's clip inspector: what each arm saw and answered, second by second. Text from data enters as text only.
(() => {
  const { $, data, el, short, name, breakable, points, options } = AVS;
  if (!data || !data.clips.length) return;

  const BACKGROUND = 0;
  const audio = $("audio");
  const state = { clip: null, second: 0 };

  options($("arm"), data.arms);
  options($("against"), data.arms);
  $("arm").value = data.arms.includes("anchored_topk") ? "anchored_topk" : data.arms[0];
  $("against").value = data.arms.includes("uniform") ? "uniform" : data.arms[0];
  const labels = [...new Set(data.clips.map((clip) => clip.label))].sort();
  options($("class"), labels.map((_, number) => String(number)), (number) => labels[number] || "(none)");
  options($("split"), [...new Set(data.clips.map((clip) => clip.split))].sort());
  options($("seed"), data.clips[0].answers[data.arms[0]].map((_, seed) => String(seed)));

  const seeds = (table) => ($("seed").value === "" ? table : [table[Number($("seed").value)]]);
  const plan = (clip, arm) => {
    const found = clip.plans[arm] || clip.plans.uniform;
    return Array.isArray(found[0]) ? found[Number($("seed").value) || 0] : found;
  };
  function score(clip, arm, kind = $("measure").value) {
    const places = kind === "foreground" ? clip.event : clip.target.map((_, second) => second);
    const answers = seeds(clip[kind][arm]);
    if (!places.length) return 0;
    const right = answers.map((answer) => places.filter((second) => answer[second] === clip.target[second]).length);
    return right.reduce((a, b) => a + b, 0) / (places.length * answers.length);
  }
  const gain = (clip) => score(clip, $("arm").value) - score(clip, $("against").value);
  const className = (index) => (index === BACKGROUND ? "·" : data.classes[index]);

  const keeps = (clip, value) => {
    const wanted = $("search").value.trim().toLowerCase();
    return (!$("class").value || labels[Number($("class").value)] === clip.label)
      && (!$("split").value || clip.split === $("split").value)
      && (!$("fallback").value || clip.fallback === ($("fallback").value === "yes"))
      && (!$("only").value || { gain: value > 1e-9, loss: value < -1e-9, same: Math.abs(value) <= 1e-9 }[$("only").value])
      && (!wanted || clip.key.toLowerCase().includes(wanted));
  };

  function shown() {
    const all = data.clips.map((clip, place) => ({ clip, place, gain: gain(clip) }));
    const by = {
      gain: (a, b) => b.gain - a.gain, loss: (a, b) => a.gain - b.gain, key: () => 0,
      class: (a, b) => (a.clip.label < b.clip.label ? -1 : a.clip.label > b.clip.label ? 1 : 0),
    }[$("sort").value];
    return all.filter((item) => keeps(item.clip, item.gain)).sort((a, b) => by(a, b) || a.place - b.place);
  }

  function count(items) {
    const sum = items.reduce((total, item) => total + item.gain, 0);
    return `${items.length} of ${data.clips.length} clips, mean gain ${points(sum / items.length)} points`;
  }

  function entry(item) {
    const sign = item.gain > 1e-9 ? "good" : item.gain < -1e-9 ? "bad" : "muted";
    return [el("span", { class: "name" }, name(item.clip.label || "(none)", 40)),
      el("span", { class: sign }, points(item.gain)),
      el("span", { class: "sub" }, name(item.clip.key, 40), item.clip.fallback ? ", fallback" : "")];
  }

  function opened(clip) {
    state.clip = clip;
    audio.src = `${data.media}/${clip.folder}/audio.wav`;
    state.second = [...clip.anchors, ...clip.event, 0].find((second) => second >= 0 && second < clip.seconds);
  }

  function show(clip) {
    $("clip-title").replaceChildren(name(clip.label || "(none)", 80), " ", el("span", { class: "muted small" }, name(clip.key, 80)));
    const facts = [`split ${clip.split}`, `event ${clip.start}–${clip.end} s`, `gain ${points(gain(clip))} points`,
      clip.anchors.length ? `anchors ${clip.anchors.join(", ")} s` : "no anchors",
      clip.fallback ? "fallback: sampled uniformly" : "", ...clip.flags.split(",")];
    $("clip-facts").replaceChildren(...facts.filter(Boolean).map((text) => el("li", {}, short(text))));
    drawTimeline(clip);
    look(state.second, true);
  }

  function row(parent, title, note, cells) {
    const head = el("div", { role: "rowheader" }, el("b", {}, ...breakable(title)), ...breakable(note));
    parent.append(el("div", { role: "row" }, head, ...cells));
  }
  const each = (clip, make) => Array.from({ length: clip.seconds }, (_, second) => make(second));
  const cell = (kind, ...children) => el("div", { role: "cell", class: kind }, ...children);

  function drawTimeline(clip) {
    const line = $("timeline");
    const arm = $("arm").value, against = $("against").value;
    line.replaceChildren();
    line.style.setProperty("--seconds", clip.seconds);
    row(line, "second", "", each(clip, (second) => {
      const button = el("button", { type: "button", class: "second", "data-second": second, "aria-label": `second ${second}: play from here` }, String(second));
      button.addEventListener("click", () => seek(second));
      return el("div", { role: "columnheader" }, button);
    }));
    row(line, "as seen", "by " + arm, each(clip, (second) => {
      const seen = plan(clip, arm)[second];
      const width = Math.min(100, (100 * seen) / data.highest);
      const image = el("img", { src: `${data.media}/${clip.folder}/${second}.jpg`, alt: `second ${second}, ${seen} pixels`, style: `width: ${width}%` });
      const node = cell("frame", image);
      node.addEventListener("click", () => { audio.currentTime = second; look(second); });
      return node;
    }));
    row(line, "eventness", "with anchors", [curve(clip)]);
    row(line, "event", short(clip.label, 30), each(clip, (second) => cell(clip.event.includes(second) ? "is-event" : "", clip.event.includes(second) ? "event" : "")));
    for (const one of new Set([arm, against])) {
      row(line, "pixels", "by " + one, each(clip, (second) => {
        const seen = plan(clip, one)[second];
        const node = cell("resolution", String(seen));
        node.style.background = `color-mix(in srgb, var(--accent) ${Math.round((55 * seen * seen) / (data.highest * data.highest))}%, transparent)`;
        return node;
      }));
    }
    const usual = [arm, against, "random_topk", "oracle_topk"].filter((one) => data.arms.includes(one));
    for (const one of new Set($("every").checked ? [arm, against, ...data.arms] : usual)) {
      row(line, one, `${(100 * score(clip, one)).toFixed(0)} % right`, each(clip, (second) => answer(clip, one, second)));
    }
    line.append(el("div", { id: "playhead", "aria-hidden": "true" }, el("i")));
  }

  function answer(clip, arm, second) {
    const given = seeds(clip[$("measure").value][arm]).map((answers) => answers[second]);
    const outside = $("measure").value === "foreground" && !clip.event.includes(second);
    if (outside) return cell("answer", el("span", { class: "muted" }, "–"));
    const counts = new Map();
    for (const one of given) counts.set(one, (counts.get(one) || 0) + 1);
    const [most] = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0])[0];
    const right = counts.get(clip.target[second]) || 0;
    const ok = most === clip.target[second];
    const said = most === BACKGROUND ? "background" : data.classes[most];
    const node = cell("answer " + (ok ? "right" : "wrong"),
      el("span", { title: short(said, 200) }, (ok ? "✓ " : "✗ ") + short(className(most), 24)),
      given.length > 1 ? el("small", {}, `${right}/${given.length}`) : "");
    node.style.setProperty("--share", right / given.length);
    return node;
  }

  function curve(clip) {
    const scores = clip.scores.map((score) => (score === null ? 0 : score));
    const low = Math.min(...scores), high = Math.max(...scores), span = high - low || 1;
    const y = (score) => 88 - (62 * (score - low)) / span;
    const x = (second) => (100 * second) / clip.seconds;
    const make = (tag, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      return node;
    };
    const box = make("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const second of clip.event) box.append(make("rect", { x: x(second), y: 0, width: x(1), height: 100, fill: "var(--soft)" }));
    for (const second of clip.anchors) box.append(make("rect", { x: x(second), y: y(scores[second]), width: x(1), height: 100 - y(scores[second]), fill: "color-mix(in srgb, var(--anchor) 22%, transparent)" }));
    const path = scores.map((score, second) => `${second ? "L" : "M"}${x(second)} ${y(score)}H${x(second + 1)}`).join("");
    box.append(make("path", { d: path, fill: "none", stroke: "var(--ink)", "stroke-width": 2, "vector-effect": "non-scaling-stroke" }));
    const text = scores.map((score, second) => `${second} s: ${score.toFixed(2)}`).join(", ");
    const node = el("div", { class: "curve", role: "cell", "aria-label": `eventness ${text}; anchors ${clip.anchors.join(", ") || "none"}` }, box);
    clip.anchors.forEach((second, rank) => {
      if (second < 0 || second >= clip.seconds) return;
      node.append(el("span", { class: "mark", style: `left: ${x(second + 0.5)}%; top: ${y(scores[second])}%` }, `▼${rank + 1}`));
    });
    return node;
  }

  // What is seen in one second, and the playhead
  const pictures = new Map();
  function picture(clip, second) {
    const address = `${data.media}/${clip.folder}/${second}.jpg`;
    if (!pictures.has(address)) {
      if (pictures.size > 64) pictures.clear();
      const image = new Image();
      image.src = address;
      pictures.set(address, image.decode().then(() => image, () => null));
    }
    return pictures.get(address);
  }

  async function draw(canvas, clip, second, seen) {
    const image = await picture(clip, second);
    if (!image || clip !== state.clip || second !== state.second) return;
    canvas.width = canvas.height = seen;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, seen, seen);
  }

  function look(second, always = false) {
    const clip = state.clip;
    second = Math.max(0, Math.min(clip.seconds - 1, second));
    if (second === state.second && !always) return;
    state.second = second;
    for (const [id, arm] of [["seen-arm", $("arm").value], ["seen-against", $("against").value]]) {
      const seen = plan(clip, arm)[second];
      $(id).setAttribute("aria-label", `Second ${second} as ${arm} sees it, ${seen} by ${seen} pixels`);
      $(id + "-text").textContent = `second ${second} as ${arm} sees it: ${seen} × ${seen}`;
      draw($(id), clip, second, seen);
    }
    const heard = clip.event.includes(second) ? "event" : "background";
    $("now").textContent = `Second ${second}: ${heard}, eventness ${clip.scores[second] === null ? "none" : clip.scores[second].toFixed(2)}`
      + (clip.anchors.includes(second) ? `, anchor ${clip.anchors.indexOf(second) + 1}` : "");
    for (const button of document.querySelectorAll(".second")) {
      if (Number(button.dataset.second) === second) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    reveal();
    follow();
  }

  function reveal() {
    const column = document.querySelector(`.second[data-second="${state.second}"]`).parentElement;
    const scroll = $("timeline-scroll"), label = document.querySelector('#timeline [role="rowheader"]').offsetWidth;
    const left = column.offsetLeft, right = left + column.offsetWidth;
    if (left < scroll.scrollLeft + label || right > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = left - label;
  }

  function follow() {
    const clip = state.clip;
    const mark = document.querySelector("#playhead i");
    if (!mark) return;
    const time = audio.paused && audio.currentTime === 0 ? state.second : audio.currentTime;
    mark.style.left = `${(100 * Math.min(time, clip.seconds)) / clip.seconds}%`;
  }

  function tick() {
    if (audio.seeking) return;
    look(Math.floor(audio.currentTime));
    follow();
    if (!audio.paused) requestAnimationFrame(tick);
  }
  function seek(second) {
    audio.currentTime = second;
    look(second, true);
    audio.play().catch(() => {});
  }
  for (const event of ["play", "timeupdate", "seeked"]) audio.addEventListener(event, tick);

  const step = (by) => { audio.currentTime = Math.max(0, state.second + by); look(state.second + by, true); };

  const clips = AVS.inspector({
    shown, entry, count, opened, show,
    filters: ["class", "split", "only", "fallback", "search"],
    keys: { ",": () => step(-1), ".": () => step(1) },
  });
  for (const id of ["arm", "against", "measure", "seed", "sort", "class", "split", "only", "fallback"]) $(id).addEventListener("change", clips.refresh);
  $("every").addEventListener("change", clips.show);
})();
