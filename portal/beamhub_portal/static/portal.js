"use strict";
/* What works better with script: copying, and the launch page that follows a start. */
(() => {
  const POLL_MS = 1000;
  const QUEUE_POLL_MS = 5000;

  for (const button of document.querySelectorAll("[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    if (!source || !navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(source.textContent.trim());
      const label = button.textContent;
      button.textContent = "Copied";
      window.setTimeout(() => {
        button.textContent = label;
      }, 1500);
    });
  }

  const box = document.getElementById("launch");
  if (!box) return;
  const heading = document.getElementById("launch-state");
  const steps = document.getElementById("launch-steps");
  const bar = document.getElementById("launch-bar");
  const doubt = document.getElementById("launch-doubt");
  const clock = document.getElementById("launch-clock");
  const slow = document.getElementById("launch-slow");
  const began = Date.now();

  const show = (messages) => {
    if (!messages.length || messages.length === steps.childElementCount) return;
    steps.replaceChildren(
      ...messages.map((message, i) => {
        const item = document.createElement("li");
        item.textContent = message;
        item.className = i === messages.length - 1 ? "current" : "done";
        return item;
      }),
    );
  };

  const look = async () => {
    let now = { state: "unknown" };
    try {
      const answer = await fetch(box.dataset.status, { headers: { Accept: "application/json" } });
      now = await answer.json();
    } catch {
      /* no answer: unknown */
    }
    if (box.dataset.state === "queued") {
      const waits = now.state === "queued";
      if (!waits && now.state !== "unknown") {
        window.location.reload();
        return;
      }
      if (waits) {
        document.getElementById("launch-position").textContent = now.position;
        document.getElementById("launch-wait").textContent = now.usual_wait;
      }
      window.setTimeout(look, QUEUE_POLL_MS);
      return;
    }
    if (now.state === "queued") {
      window.location.reload();
      return;
    }
    doubt.hidden = now.state !== "unknown";
    const seconds = Math.round((Date.now() - began) / 1000);
    clock.textContent = `${seconds} s on this page`;
    slow.hidden = seconds < 20;
    if (now.state === "ready") {
      heading.textContent = "Opening the notebook";
      bar.value = 100;
      window.location.replace(now.url);
      return;
    }
    if (now.state === "failed" || now.state === "stopped" || now.state === "login") {
      window.location.reload();
      return;
    }
    if (now.state === "starting") {
      bar.value = now.percent;
      show(now.messages);
    }
    window.setTimeout(look, POLL_MS);
  };

  if (box.dataset.target) {
    window.location.replace(box.dataset.target);
  } else if (box.dataset.follow === "yes") {
    window.setTimeout(look, POLL_MS / 2);
  }
})();
