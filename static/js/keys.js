// The keyboard: / search, j k move, Enter open, x select, p problems only, ? help. What has the focus is where one is.
(() => {
  "use strict";
  const LINKS = "#list th.id a, #past th.id a, #stream summary, .audit th a, #findings [data-move], #incidents [data-move]";
  const links = () => [...document.querySelectorAll(LINKS)];
  const help = document.getElementById("help");

  function move(step) {
    const all = links();
    const at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
    next?.focus();
    (next?.closest("tr, li") ?? next)?.scrollIntoView({ block: "nearest" });
  }

  const KEYS = {
    "/": () => document.querySelector("#q, [data-search], main input[type=search]")?.select(),
    j: () => move(1),
    k: () => move(-1),
    x: () => document.activeElement.closest("tr")?.querySelector("input[name=run], input[name=incident]")?.click(),
    p: () => document.getElementById("problems")?.click(),
    "?": () => help?.showModal(),
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
    if (event.target.matches("input:not([type=checkbox]), select, textarea, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  addEventListener("click", ({ target }) => {
    if (target.closest("[data-opens=help]")) help?.showModal();
    // a menu closes when somebody clicks beside it
    document.querySelectorAll("details.menu[open]").forEach((menu) => { if (!menu.contains(target)) menu.open = false; });
  });
})();
