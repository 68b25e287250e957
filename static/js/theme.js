// Runs before the first paint, so that nobody sees the other theme flash by.
(() => {
  "use strict";
  const root = document.documentElement;
  const NEXT = { system: "light", light: "dark", dark: "system" };
  const kept = () => { try { return localStorage.getItem("relay-theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  root.classList.add("js");
  show(kept());
  addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-theme-switch]");
    if (!button) return;
    const theme = NEXT[root.dataset.theme ?? "system"];
    show(theme);
    button.title = `Theme: ${theme}`;
    try { localStorage.setItem("relay-theme", theme); } catch { /* a browser that keeps nothing */ }
  });
})();
