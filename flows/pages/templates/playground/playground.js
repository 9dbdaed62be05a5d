"use strict";
// Texts of models are shown by textContent only, so that markup in them stays text.
const $ = (id) => document.getElementById(id);
const FIELDS = ["prompt", "temperature", "top_p", "max_tokens", "seed", "stop"];
let running = new AbortController();

function make(kind, parent, text = "", name = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  parent.append(made);
  return made;
}

const chosen = () => [...document.querySelectorAll("#models input:checked")].map((box) => box.value);
const bits = (logprob) => -logprob / Math.LN2;
const colour = (value) => `rgba(230, 120, 40, ${Math.min(0.75, value / 16).toFixed(3)})`;

function save() {
  const state = new URLSearchParams(FIELDS.map((name) => [name, $(name).value]));
  for (const model of chosen()) state.append("model", model);
  history.replaceState(null, "", `#${state}`);
}

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), signal: running.signal });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
}

function showToken(box, ids, text, chance, top, id, isPrompt) {
  const span = make("span", box, text, isPrompt ? "token prompt" : "token");
  const place = ids.push(id);
  span.tabIndex = 0;
  span.style.backgroundColor = colour(bits(chance));
  const lines = [`${JSON.stringify(text)}  ${bits(chance).toFixed(2)} bits`, ""];
  for (const [piece, value] of Object.entries(top).sort((a, b) => b[1] - a[1]).slice(0, 5))
    lines.push(`${(100 * Math.exp(value)).toFixed(1).padStart(5)} %  ${JSON.stringify(piece)}`);
  const show = () => {
    const at = span.getBoundingClientRect();
    $("tip").textContent = lines.join("\n");
    $("tip").hidden = false;
    $("tip").style.left = `${Math.max(4, Math.min(at.left, innerWidth - $("tip").offsetWidth - 8))}px`;
    $("tip").style.top = `${at.bottom + 6 + $("tip").offsetHeight > innerHeight ? at.top - 6 - $("tip").offsetHeight : at.bottom + 6}px`;
  };
  const hide = () => { $("tip").hidden = true; };
  for (const name of ["mouseenter", "focus"]) span.addEventListener(name, show);
  for (const name of ["mouseleave", "blur"]) span.addEventListener(name, hide);
  const look = () => attend(box, span, ids.slice(0, place)).catch((error) => { $("verdict").textContent = error.message; });
  span.addEventListener("click", look);
  span.addEventListener("keydown", (event) => { if (event.key === "Enter") look(); });
}

async function attend(box, span, ids) {
  const found = await (await post("/attention", { model: box.dataset.model, prompt: ids })).json();
  const spans = [...box.querySelectorAll(".token")], panel = $("attention");
  document.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
  span.classList.add("chosen");
  panel.replaceChildren();
  panel.hidden = false;
  make("h2", panel, `What ${JSON.stringify(span.textContent)} attends to (${box.dataset.model})`);
  const row = make("div", panel, "", "row"), text = make("div", panel, "", "text");
  const layer = make("select", make("label", row, "Layer ")), head = make("select", make("label", row, "Head "));
  found.weights.forEach((_, n) => make("option", layer, String(n + 1)));
  make("option", head, "mean");
  found.weights[0].forEach((_, n) => make("option", head, String(n + 1)));
  const draw = () => {
    const heads = found.weights[layer.selectedIndex], pick = head.selectedIndex ? [heads[head.selectedIndex - 1]] : heads;
    const weights = heads[0].map((_, t) => pick.reduce((sum, one) => sum + one[t], 0) / pick.length);
    const most = Math.max(...weights);
    text.replaceChildren();
    weights.forEach((weight, t) => {
      const place = found.begin + t;
      const token = make("span", text, place < 0 ? "·" : spans[place]?.textContent ?? "");
      token.style.backgroundColor = `rgba(70, 130, 230, ${(0.8 * weight / most).toFixed(3)})`;
      token.title = `${(100 * weight).toFixed(1)} %`;
    });
  };
  layer.onchange = head.onchange = draw;
  draw();
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function show(choice, box, ids, count, prompt) {
  const told = choice.logprobs;
  if (!told) { if (choice.text) make("span", box, choice.text); return; }
  const text = [...choice.text];
  told.token_logprobs.forEach((value, n) => {
    const start = told.text_offset[n] - told.text_offset[0];
    const end = n + 1 < told.tokens.length ? told.text_offset[n + 1] - told.text_offset[0] : text.length;
    const isPrompt = count.characters < prompt;
    count.bits += bits(value);
    if (!isPrompt) { count.answer += bits(value); count.tokens += 1; }
    count.characters += end - start;
    showToken(box, ids, text.slice(start, end).join(""), value, told.top_logprobs[n], told.token_ids[n], isPrompt);
  });
}

async function markRepeated(card, box) {
  const found = await (await post("/repeated", { model: box.dataset.model, prompt: box.textContent })).json();
  let at = 0;
  for (const span of box.children) {
    const end = at + [...span.textContent].length;
    if (found.stretches.some(([first, last]) => first < end && at < last)) span.classList.add("repeated");
    at = end;
  }
  make("p", card, found.stretches.length ? "Underlined: it stands word for word in the training text."
    : `No ${found.at_least} characters in a row stand in the training text.`, "repeats");
}

async function ask(model, extra) {
  const card = make("article", $("answers")), title = make("h2", card, model), box = make("div", card, "", "text");
  const note = make("small", title), ids = [], count = { bits: 0, answer: 0, tokens: 0, characters: 0 };
  box.dataset.model = model;
  const number = (name) => ($(name).value === "" ? undefined : Number($(name).value));
  const body = { model, prompt: $("prompt").value, echo: true, logprobs: 5, stream: true, seed: number("seed"),
    temperature: number("temperature"), top_p: number("top_p"), max_tokens: number("max_tokens"), ...extra };
  if ($("stop").value) body.stop = [$("stop").value.replaceAll("\\n", "\n")];
  try {
    const reader = (await post("/v1/completions", body)).body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts)
        if (part !== "data: [DONE]") show(JSON.parse(part.slice(6)).choices[0], box, ids, count, [...body.prompt].length);
    }
    note.textContent = count.tokens ? `  ${(count.answer / count.tokens).toFixed(2)} bits a token` : "";
    card.dataset.done = "yes";
    const perByte = count.bits / new TextEncoder().encode(body.prompt).length;
    if (extra) note.textContent = `  ${perByte.toFixed(3)} bits per byte`;
    markRepeated(card, box).catch((error) => { if (error.name !== "AbortError") make("p", card, error.message, "repeats"); });
    return [model, perByte];
  } catch (error) {
    if (error.name !== "AbortError") make("p", card, error.message, "error");
    return null;
  }
}

async function go(extra) {
  running.abort();
  running = new AbortController();
  save();
  $("answers").replaceChildren();
  $("attention").hidden = true;
  $("verdict").textContent = chosen().length ? "" : "Choose a model.";
  if (extra && !$("prompt").value) { $("verdict").textContent = "Enter a text to score."; return; }
  const found = (await Promise.all(chosen().map((model) => ask(model, extra)))).filter(Boolean);
  if (extra && found.length) $("verdict").textContent = `This reads most like ${found.sort((a, b) => a[1] - b[1])[0][0]}.`;
}

async function start() {
  const state = new URLSearchParams(location.hash.slice(1)), wanted = state.getAll("model");
  for (const name of FIELDS) if (state.has(name)) $(name).value = state.get(name);
  const { data } = await (await fetch("/v1/models")).json();
  const listed = data.map(({ id }) => id);
  [...listed, ...wanted.filter((id) => !listed.includes(id))].forEach((id, n) => {
    const label = make("label", $("models")), box = make("input", label);
    Object.assign(box, { type: "checkbox", value: id, checked: wanted.length ? wanted.includes(id) : n < 2 });
    label.append(` ${id}`);
  });
  if (!$("models").querySelector("input")) make("span", $("models"), "No model is trained yet.");
  $("form").addEventListener("submit", (event) => { event.preventDefault(); go(); });
  $("score").addEventListener("click", () => go({ max_tokens: 0 }));
  $("end").addEventListener("click", () => running.abort());
  $("share").addEventListener("click", () => { save(); navigator.clipboard?.writeText(location.href); $("verdict").textContent = location.href; });
  document.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go(); });
  $("form").addEventListener("input", save);
  if (state.has("prompt")) go();
}

if (top !== self) throw new Error("it stands in no other page");
start().catch((error) => { $("verdict").textContent = error.message; });
