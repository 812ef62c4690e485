"use strict";
/* Light or dark before the first paint; the choice is shared with the hub's pages. */
(() => {
  const KEY = "jupyterhub-bs-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return window.localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const apply = () => {
    const chosen = stored();
    const theme = chosen === "light" || chosen === "dark" ? chosen : system.matches ? "dark" : "light";
    document.documentElement.setAttribute("data-bs-theme", theme);
  };
  apply();
  system.addEventListener("change", apply);
  window.addEventListener("DOMContentLoaded", () => {
    document.documentElement.classList.add("has-script");
    const toggle = document.getElementById("theme-toggle");
    if (!toggle) return;
    toggle.addEventListener("click", () => {
      const dark = document.documentElement.getAttribute("data-bs-theme") === "dark";
      try {
        window.localStorage.setItem(KEY, dark ? "light" : "dark");
      } catch {
        /* the choice is not kept */
      }
      document.documentElement.setAttribute("data-bs-theme", dark ? "light" : "dark");
    });
  });
})();
