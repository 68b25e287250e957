// The rows that somebody has picked. They stay picked when the list changes, until they are let go.
(() => {
  "use strict";
  const picked = new Map(); // run -> worker id
  let anchor = null; // where a range begins
  let everything = 0; // how many match, if all of them are meant
  const list = () => document.getElementById("list");
  const boxes = () => [...document.querySelectorAll("#list input[name=run]")];

  function show() {
    const shown = boxes();
    shown.forEach((box) => { box.checked = picked.has(box.value); });
    const here = shown.filter((box) => box.checked).length;
    const all = document.getElementById("pick-all");
    if (all) {
      all.checked = here > 0 && here === shown.length;
      all.indeterminate = here > 0 && here < shown.length;
    }
    const bar = document.getElementById("selection");
    if (!bar) return;
    bar.hidden = picked.size === 0;
    const matching = Number(list()?.dataset.matching ?? 0);
    const more = bar.querySelector("[data-select-all]");
    more.hidden = Boolean(everything) || here < shown.length || matching <= picked.size;
    more.textContent = `Select all ${matching} that match`;
    if (everything) { bar.querySelector("[data-count]").textContent = `all ${everything} that match`; return; }
    const elsewhere = picked.size - here;
    bar.querySelector("[data-count]").textContent =
      `${picked.size} selected${elsewhere ? `, ${elsewhere} not on this page` : ""}`;
  }

  function pick(box, on) {
    if (on) picked.set(box.value, box.closest("tr").dataset.worker);
    else picked.delete(box.value);
  }

  window.relay.selection = () => ({ keys: [...picked.keys()], all: everything, query: list()?.dataset.query ?? "" });

  let shift = false;
  addEventListener("click", (event) => { shift = event.shiftKey; }, true);

  addEventListener("change", ({ target }) => {
    everything = 0;
    if (target.id === "pick-all") boxes().forEach((box) => pick(box, target.checked));
    else if (target.name !== "run" || !target.closest("#list")) return;
    else {
      const all = boxes();
      const [from, to] = [all.findIndex((box) => box.value === anchor), all.indexOf(target)];
      const range = shift && from >= 0 ? all.slice(Math.min(from, to), Math.max(from, to) + 1) : [target];
      range.forEach((box) => pick(box, target.checked));
      anchor = target.value;
    }
    show();
  });

  addEventListener("click", ({ target }) => {
    if (target.closest("[data-clear-selection]")) { picked.clear(); everything = 0; show(); }
    if (target.closest("[data-select-all]")) { everything = Number(list().dataset.matching); show(); }
    const button = target.closest("[data-copy-ids]");
    if (button) window.relay.copy(button, [...picked.values()].join("\n"));
  });

  document.addEventListener("htmx:afterSettle", show);
  show();
})();
