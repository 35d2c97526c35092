// What scripts add to the pages: copying, and bars that move. Every page works without it.
"use strict";

const said = document.getElementById("said");

function copyButtons() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        said.textContent = "Copied to the clipboard.";
      } catch {
        button.textContent = "Select it, and copy";
        said.textContent = "The browser did not allow it: select the text and copy it.";
      }
      setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 4000);
    });
  }
}

// A page that the browser keeps to go back to must not keep the key.
function forgetSecrets() {
  addEventListener("pagehide", () => {
    for (const element of document.querySelectorAll("[data-secret]")) element.textContent = "(shown once)";
  });
}

function show(state) {
  for (const [id, key] of Object.entries(state.keys)) {
    const used = document.querySelector(`[data-last-used="${CSS.escape(id)}"]`);
    if (used) used.textContent = key.last_used;
    for (const [limit, [value, text]] of Object.entries(key.bars)) {
      const bar = document.querySelector(`[data-key="${CSS.escape(id)}"] [data-limit="${CSS.escape(limit)}"]`);
      if (!bar) continue;
      bar.querySelector("meter").value = value;
      bar.querySelector(".bar-text").textContent = text;
    }
  }
}

// The server answers with one event and the time to ask again; so nobody holds a connection open.
function liveBars() {
  const place = document.querySelector("[data-live]");
  const sign = document.getElementById("live");
  if (!place || !sign || !globalThis.EventSource) return;
  let source = null;
  const open = () => {
    source = new EventSource(place.dataset.live);
    source.onmessage = (event) => {
      const state = JSON.parse(event.data);
      show(state);
      sign.hidden = !state.known;
    };
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) sign.hidden = true; };
  };
  const close = () => { source?.close(); sign.hidden = true; };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (!document.hidden) open();
}

copyButtons();
forgetSecrets();
liveBars();
