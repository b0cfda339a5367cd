// What a browser with scripts adds to pages that are complete without: the reader's own time next to UTC,
// buttons that copy, and pages that refresh themselves.
"use strict";

const COPIED_MS = 2000;

function two(number) {
  return String(number).padStart(2, "0");
}

function localTime(moment) {
  const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const utcDay = moment.toISOString().slice(0, 10);
  const time = `${two(moment.getHours())}:${two(moment.getMinutes())}`;
  return day(moment) === utcDay ? time : `${day(moment)} ${time}`;
}

function showLocalTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime()) || moment.getTimezoneOffset() === 0) continue;
    const words = `${localTime(moment)} your time`;
    if (element.title || element.closest("table")) {
      element.title = element.title ? `${element.title}, ${words}` : words;
    } else {
      const added = document.createElement("span");
      added.className = "local-time small";
      added.textContent = ` (${words})`;
      element.append(added);
    }
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function addCopyButtons(root) {
  if (!navigator.clipboard) return; // only over HTTPS, and on this machine
  for (const element of root.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm btn-outline-secondary copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${element.dataset.copy}`);
    button.addEventListener("click", async () => {
      button.textContent = (await copy(element.textContent)) ? "Copied" : "Not copied";
      setTimeout(() => { button.textContent = "Copy"; }, COPIED_MS);
    });
    if (element.tagName === "PRE") {
      const box = document.createElement("div");
      box.className = "copy-box";
      element.replaceWith(box);
      box.append(button, element);
    } else {
      element.after(" ", button);
    }
  }
}

function improve(root) {
  showLocalTimes(root);
  addCopyButtons(root);
}

// Nothing is taken from the reader's hands: not what is selected, nor a field or a link that has the focus.
function isUsed(main) {
  const selected = document.getSelection();
  return document.hidden || main.contains(document.activeElement) || (selected && !selected.isCollapsed);
}

async function refresh() {
  const main = document.querySelector("main");
  if (isUsed(main)) return true;
  // an idle session still expires, in spite of this request
  const answer = await fetch(location.href, { headers: { "X-Refresh": "1" }, cache: "no-store" });
  if (answer.redirected || answer.status === 404) return false;
  if (!answer.ok || isUsed(main)) return true;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  if (!fresh) return false;
  const open = [...main.querySelectorAll("details")].map((each) => each.open);
  [...fresh.querySelectorAll("details")].forEach((each, place) => { each.open = open[place] || each.open; });
  improve(fresh);
  main.replaceChildren(...fresh.childNodes);
  main.dataset.refresh = fresh.dataset.refresh || "";
  return main.dataset.refresh !== "";
}

async function keepFresh() {
  const main = document.querySelector("main[data-refresh]");
  if (!main || !main.dataset.refresh) return;
  let goOn = true;
  try {
    goOn = await refresh();
  } catch {
    goOn = true; // the service restarts, or the network is away
  }
  if (goOn) setTimeout(keepFresh, 1000 * Number(main.dataset.refresh || 10));
}

improve(document);
const first = document.querySelector("main[data-refresh]");
if (first && first.dataset.refresh) setTimeout(keepFresh, 1000 * Number(first.dataset.refresh));
