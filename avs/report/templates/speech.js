"use strict";
// The speech page's clip inspector: lips in step with each sound, and what was understood. Text from data enters as text only.
(() => {
  const { $, data, el, short, name, breakable, points, options } = AVS;
  if (!data || !data.clips.length) return;

  const KINDS = { mixture: "mixture", seanet: "SEANet's output", clean: "clean voice" };
  const audio = $("audio");
  const state = { clip: null, kind: "mixture", source: "", start: 0, playing: false, frame: -1 };
  const textOf = (list) => (wanted) => list.find((one) => one.name === wanted).text;
  const known = (list) => list.map((one) => one.name);

  options($("condition"), known(data.conditions), textOf(data.conditions));
  for (const id of ["model", "against"]) options($(id), known(data.models), textOf(data.models));
  const most = (names, count) => names.reduce((best, one) => (count(one) > count(best) ? one : best));
  $("condition").value = most(known(data.conditions), (one) => data.clips.filter((clip) => clip.sounds[one]).length);
  const prefer = (id, ...wanted) => { $(id).value = wanted.find((one) => known(data.models).includes(one)) || data.models[0].name; };
  prefer("model", "av", "audio");
  prefer("against", "audio");
  const distinct = (field) => [...new Set(data.clips.map((clip) => clip[field]))].sort();
  const [speakers, datasets] = [distinct("speaker"), distinct("dataset")];
  options($("speaker"), speakers.map((_, place) => String(place)), (place) => speakers[place] || "(not known)");
  options($("dataset"), datasets.map((_, place) => String(place)), (place) => datasets[place]);

  const answer = (clip, model, condition = $("condition").value) => (clip.answers[condition] || {})[model];
  const errors = (clip, model) => { const found = answer(clip, model); return found ? found.errors : null; };

  // The list
  function shown() {
    const wanted = $("search").value.trim().toLowerCase();
    const all = data.clips.map((clip, place) => {
      const count = errors(clip, $("model").value), other = errors(clip, $("against").value);
      return { clip, place, count, gain: count === null || other === null ? 0 : other - count };
    });
    const fits = ({ clip, count }) => count !== null
      && (!$("only").value || { wrong: count > 0, right: count === 0, sound: $("condition").value in clip.sounds }[$("only").value])
      && (!$("speaker").value || clip.speaker === speakers[Number($("speaker").value)])
      && (!$("dataset").value || clip.dataset === datasets[Number($("dataset").value)])
      && (!wanted || `${clip.key}\n${clip.reference}\n${understood(clip)}`.toLowerCase().includes(wanted));
    const by = {
      most: (a, b) => b.count - a.count, fewest: (a, b) => a.count - b.count,
      gain: (a, b) => b.gain - a.gain, loss: (a, b) => a.gain - b.gain, key: () => 0,
    }[$("sort").value];
    return all.filter(fits).sort((a, b) => by(a, b) || a.place - b.place);
  }
  const understood = (clip) => answer(clip, $("model").value).edits
    .filter(([kind]) => kind !== "d").map(([, said, instead]) => instead || said).join(" ");

  function count(items) {
    const wrong = items.reduce((sum, item) => sum + item.count, 0);
    const words = items.reduce((sum, item) => sum + answer(item.clip, $("model").value).words, 0);
    const share = words ? `, ${((100 * wrong) / words).toFixed(1)} % of ${words} words wrong` : "";
    return `${items.length} of ${data.clips.length} clips${share}`;
  }

  function entry({ clip, count: wrong }) {
    const { words } = answer(clip, $("model").value);
    return [el("span", { class: "name" }, name(clip.reference || "(nothing said)", 60)),
      el("span", { class: wrong ? "bad" : "good", title: "errors of words" }, `${wrong ? "✗" : "✓"} ${wrong}/${words}`),
      el("span", { class: "sub" }, $("condition").value in clip.sounds ? "♪ " : "", name(clip.key, 40), clip.speaker ? ", " : "", name(clip.speaker, 20))];
  }

  // One clip
  function opened(clip) {
    audio.pause();
    Object.assign(state, { clip, source: "", start: 0, playing: false, frame: -1 });
  }

  function show(clip) {
    $("clip-title").replaceChildren(name(clip.reference || "(nothing said)", 120), " ", el("span", { class: "muted small" }, name(clip.key, 80)));
    const facts = [`data set ${clip.dataset}`, `split ${clip.split}`, clip.speaker ? `speaker ${clip.speaker}` : "",
      `${clip.seconds.toFixed(2)} s`, ...clip.flags.split(",")];
    $("clip-facts").replaceChildren(...facts.filter(Boolean).map((text) => el("li", {}, el("bdi", {}, short(text)))));
    $("reference").textContent = clip.reference;
    offerSounds(clip);
    showAnswers(clip);
    showOverview(clip);
    draw();
  }

  function table(caption, heads, rows) {
    return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      el("table", {}, el("caption", {}, el("span", {}, caption)), el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)));
  }
  const modelHead = (model) => el("th", { scope: "row" }, ...breakable(model.name),
    model.text === model.name ? "" : el("span", { class: "note" }, model.text));

  function showAnswers(clip) {
    const rows = data.models.filter((model) => answer(clip, model.name)).map((model) => {
      const found = answer(clip, model.name);
      return el("tr", { class: model.name === $("model").value ? "main" : null }, modelHead(model),
        el("td", {}, `${found.errors}/${found.words}`),
        el("td", { class: "text" }, el("bdi", {}, ...found.edits.flatMap((edit) => [mark(edit), " "]))));
    });
    const heads = ["model", "errors"].map((text) => el("th", { scope: "col" }, text));
    $("answers").replaceChildren(table(`What was understood, ${textOf(data.conditions)($("condition").value)}`,
      [...heads, el("th", { scope: "col", class: "text" }, "understood")], rows));
  }

  function mark([kind, said, instead]) {
    if (kind === "=") return said;
    const told = { s: "instead of ", d: "left out: ", i: "put in: " }[kind];
    const [before, after] = { s: [said, instead], d: [said, null], i: [null, said] }[kind];
    return el("span", { class: "edit " + kind }, el("span", { class: "unseen" }, told),
      ...(before === null ? [] : [el("del", {}, before)]), ...(kind === "s" ? [" ", el("span", { class: "unseen" }, "understood: ")] : []),
      ...(after === null ? [] : [el("ins", {}, after)]), el("span", { class: "unseen" }, "; "));
  }

  function showOverview(clip) {
    const there = data.conditions.filter((condition) => condition.name in clip.answers);
    const now = $("condition").value;
    const heads = there.map((condition) => {
      const button = el("button", { type: "button", "aria-pressed": String(condition.name === now) }, condition.text, condition.name in clip.sounds ? " ♪" : "");
      button.addEventListener("click", () => {
        $("condition").value = condition.name;
        clips.refresh();
        $("overview").querySelector('[aria-pressed="true"]')?.focus({ preventScroll: true });
      });
      return el("th", { scope: "col" }, button);
    });
    const rows = data.models.map((model) => el("tr", {}, modelHead(model), ...there.map((condition) => {
      const found = answer(clip, model.name, condition.name);
      return el("td", { class: condition.name === now ? "now" : null }, found ? `${found.errors}/${found.words}` : "");
    })));
    $("overview").replaceChildren(table("Errors of this clip in every condition; ♪ has its sound", [el("th", { scope: "col" }, "model"), ...heads], rows));
  }

  // Sounds, and the lips in step
  function offerSounds(clip) {
    const condition = $("condition").value;
    const files = { ...clip.sounds[condition], clean: "clean.wav" };
    const kinds = Object.keys(KINDS).filter((kind) => kind in files);
    const kind = kinds.includes(state.kind) ? state.kind : kinds[0];
    $("sounds").replaceChildren($("sounds").firstElementChild, ...kinds.map((one) => {
      const input = el("input", { type: "radio", name: "sound", value: one });
      input.checked = one === kind;
      input.addEventListener("change", () => { state.kind = one; load(clip, files[one]); });
      return el("label", { class: "check" }, input, KINDS[one]);
    }));
    $("absent").textContent = condition in clip.sounds || condition === "clean" ? ""
      : "What was heard of this clip in this condition was not kept.";
    load(clip, files[kind]);
  }

  // Another sound of the same clip goes on where the one before was.
  function load(clip, file) {
    const source = `${data.media}/${clip.folder}/${file}`;
    if (source === state.source) return;
    if (state.source && audio.readyState) Object.assign(state, { start: audio.currentTime, playing: !audio.paused });
    state.source = source;
    audio.src = source;
  }
  audio.addEventListener("loadedmetadata", () => {
    if (state.start) audio.currentTime = state.start;  // else where someone has gone to meanwhile
    if (state.playing) audio.play().catch(() => {});
  });

  const strips = new Map();
  function strip(clip) {
    if (!strips.has(clip.folder)) {
      if (strips.size > 8) strips.clear();
      const image = new Image();
      image.src = `${data.media}/${clip.folder}/lips.jpg`;
      strips.set(clip.folder, image.decode().then(() => image, () => null));
    }
    return strips.get(clip.folder);
  }

  async function draw() {
    const { clip } = state;
    const time = audio.readyState ? audio.currentTime : 0;
    const frame = Math.max(0, Math.min(clip.frames - 1, Math.floor(time * data.rate + 1e-3)));
    const image = await strip(clip);
    if (!image || clip !== state.clip || frame === state.frame) return;
    state.frame = frame;
    const side = image.naturalWidth / data.rate, canvas = $("lips");
    if (canvas.width !== side) canvas.width = canvas.height = side;
    canvas.getContext("2d").drawImage(image, (frame % data.rate) * side, Math.floor(frame / data.rate) * side, side, side, 0, 0, side, side);
    canvas.dataset.frame = frame;
    canvas.setAttribute("aria-label", `The mouth at ${time.toFixed(2)} s, picture ${frame + 1} of ${clip.frames}`);
    const word = clip.said.find(([, start, end]) => time >= start && time < end);
    $("now").replaceChildren(`${time.toFixed(2)} s `, el("bdi", {}, word ? short(word[0], 30) : ""));
  }

  function tick() {
    draw();
    if (!audio.paused) requestAnimationFrame(tick);
  }
  for (const event of ["play", "timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(event, tick);

  const step = (by) => {
    audio.pause();
    audio.currentTime = Math.max(0, Math.min(state.clip.seconds, (state.frame + by + 0.5) / data.rate));
  };
  const hear = (kind) => $("sounds").querySelector(`input[value="${kind}"]`)?.click();

  const clips = AVS.inspector({
    shown, entry, count, opened, show,
    first: ({ clip }) => $("condition").value in clip.sounds,
    filters: ["only", "speaker", "dataset", "search"],
    keys: { ",": () => step(-1), ".": () => step(1), 1: () => hear("mixture"), 2: () => hear("seanet"), 3: () => hear("clean") },
  });
  for (const id of ["condition", "model", "against", "sort", "only", "speaker", "dataset"]) $(id).addEventListener("change", () => clips.refresh());
})();
