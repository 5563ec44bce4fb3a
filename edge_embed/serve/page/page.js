// The search page. Text from the index is only ever put in as text nodes, never as HTML.
"use strict";

const query = document.getElementById("query");
const mode = document.getElementById("mode");
const list = document.getElementById("hits");
const status = document.getElementById("status");
const keyForm = document.getElementById("key-form");
const keyField = document.getElementById("key");

const PAUSE_MS = 80; // so that fast typing does not ask for every letter
let timer = 0;
let running = null; // the AbortController of the search under way
let latest = 0;

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

// The snippet's words are between these two characters.
function marked(text, open, close) {
  const holder = element("p", "text", "");
  for (const [place, part] of text.split(open).entries()) {
    const [word, rest] = place === 0 ? [null, part] : part.split(close, 2);
    if (word !== null) holder.append(element("mark", "", word));
    holder.append(document.createTextNode(rest ?? ""));
  }
  return holder;
}

function show(answer) {
  list.replaceChildren();
  for (const hit of answer.hits) {
    const item = document.createElement("li");
    item.tabIndex = 0;
    const heading = [hit.title, ...hit.headings].filter(Boolean).join(" › ") || hit.document_id;
    item.append(element("div", "title", heading));
    item.append(element("div", "source", `${hit.document_id}, characters ${hit.start} to ${hit.end}`));
    const snippet = marked(hit.snippet, ...answer.marks);
    const whole = element("p", "text", hit.text);
    whole.hidden = true;
    item.append(snippet, whole);
    const toggle = () => {
      whole.hidden = !whole.hidden;
      snippet.hidden = !whole.hidden;
    };
    item.addEventListener("click", () => {
      if (!String(getSelection())) toggle();
    });
    item.addEventListener("keydown", (event) => {
      if (event.key === "Enter") toggle();
    });
    list.append(item);
  }
}

async function search() {
  const text = query.value.trim();
  running?.abort();
  if (!text) {
    list.replaceChildren();
    say("");
    return;
  }
  const number = ++latest;
  running = new AbortController();
  const headers = { "content-type": "application/json" };
  const key = sessionStorage.getItem("key");
  if (key) headers.authorization = `Bearer ${key}`;
  const started = performance.now();
  try {
    const response = await fetch("search", {
      method: "POST",
      headers,
      body: JSON.stringify({ query: text, mode: mode.value, k: 10 }),
      signal: running.signal,
    });
    const answer = await response.json();
    if (number !== latest) return;
    keyForm.hidden = response.status !== 401;
    if (!response.ok) {
      list.replaceChildren();
      say(answer.error.message, true);
      return;
    }
    show(answer);
    const count = answer.hits.length;
    const took = Math.round(performance.now() - started);
    say(count === 0 ? `Nothing found for “${text}”.` : `${count} ${count === 1 ? "passage" : "passages"} in ${took} ms`);
  } catch (error) {
    if (error.name === "AbortError" || number !== latest) return;
    list.replaceChildren();
    say("The server does not answer. Is it still running?", true);
  }
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE_MS);
}

query.addEventListener("input", later);
mode.addEventListener("change", search);
document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", keyField.value);
  search();
});

document.addEventListener("keydown", (event) => {
  const items = [...list.children];
  const place = items.indexOf(document.activeElement);
  if (event.key === "ArrowDown" && items.length) {
    items[Math.min(place + 1, items.length - 1)].focus();
    event.preventDefault();
  } else if (event.key === "ArrowUp" && place >= 0) {
    (place === 0 ? query : items[place - 1]).focus();
    event.preventDefault();
  } else if (event.key === "Escape" || (event.key === "/" && document.activeElement.tagName !== "INPUT")) {
    query.focus();
    query.select();
    event.preventDefault();
  }
});
