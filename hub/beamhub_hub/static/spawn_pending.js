// Follows a start's progress and opens the session once it is ready. Messages are shown as text, never as HTML.
(function () {
  "use strict";
  const sheet = document.getElementById("spawn-pending");
  const bar = sheet.querySelector(".progress-bar");
  const message = document.getElementById("progress-message");
  const log = document.getElementById("progress-log");
  const source = new EventSource(sheet.dataset.progressUrl);

  source.onmessage = function (event) {
    const progress = JSON.parse(event.data);
    if (progress.progress !== undefined) {
      bar.style.width = progress.progress + "%";
      bar.parentElement.setAttribute("aria-valuenow", progress.progress);
    }
    if (progress.message) {
      message.textContent = progress.message;
      const line = document.createElement("li");
      line.textContent = progress.message;
      log.append(line);
    }
    if (progress.ready) {
      source.close();
      window.location.reload();
    }
    if (progress.failed) {
      source.close();
      bar.classList.add("bg-danger");
      document.getElementById("progress-details").open = true;
    }
  };
})();
