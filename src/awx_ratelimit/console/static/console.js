// Copy buttons and live usage bars. Every page works without this script.
"use strict";

const announcement = document.getElementById("said");

function copyButtons() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        announcement.textContent = "Copied to the clipboard.";
      } catch {
        button.textContent = "Copy it manually";
        announcement.textContent = "Your browser blocked copying. Select the text and copy it manually.";
      }
      setTimeout(() => { button.textContent = "Copy"; announcement.textContent = ""; }, 4000);
    });
  }
}

// The browser may keep this page for its back button. Remove the key from it.
function hideSecrets() {
  addEventListener("pagehide", () => {
    for (const element of document.querySelectorAll("[data-secret]")) element.textContent = "(shown once)";
  });
}

function updateBars(state) {
  for (const [id, key] of Object.entries(state.keys)) {
    const used = document.querySelector(`[data-last-used="${CSS.escape(id)}"]`);
    if (used) used.textContent = key.last_used;
    updateLimits(id, key.bars);
  }
  updateLimits("shared", state.shared ?? {});
}

function updateLimits(owner, bars) {
  for (const [limit, [value, text, note]] of Object.entries(bars)) {
    const bar = document.querySelector(`[data-key="${CSS.escape(owner)}"] [data-limit="${CSS.escape(limit)}"]`);
    if (!bar) continue;
    bar.querySelector("meter").value = value;
    bar.querySelector(".bar-text").textContent = text;
    const reset = bar.querySelector(".bar-note");
    if (reset) reset.textContent = note ?? "";
  }
}

// The server sends one event and a retry time, so no connection stays open.
function liveBars() {
  const element = document.querySelector("[data-live]");
  const liveLabel = document.getElementById("live");
  if (!element || !liveLabel || !globalThis.EventSource) return;
  let source = null;
  const open = () => {
    source = new EventSource(element.dataset.live);
    source.onmessage = (event) => {
      const state = JSON.parse(event.data);
      updateBars(state);
      liveLabel.hidden = !state.known;
    };
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) liveLabel.hidden = true; };
  };
  const close = () => { source?.close(); liveLabel.hidden = true; };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (!document.hidden) open();
}

copyButtons();
hideSecrets();
liveBars();
