// The swap style `cells`: of an element that arrives, only those cells replace their like whose content differs.
// Checkboxes, focus, selected text and open menus stay as they are; the tint of a row that says something new fades.
(() => {
  "use strict";
  const OURS = ["flash"]; // classes that the browser put there
  const waiting = new Map(); // cell on the page -> the one that shall replace it once nobody is in it

  const cellsOf = (element) =>
    element.matches("tr") ? [...element.children] : [...element.querySelectorAll("[data-cell]")];

  // A cell without what only ticks
  function facts(cell) {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("time").forEach((time) => { time.textContent = ""; });
    copy.querySelectorAll("[name=csrfmiddlewaretoken]").forEach((token) => token.remove()); // of the page alone
    return copy.innerHTML + (cell.getAttribute("class") ?? "");
  }

  function busy(cell) {
    // what sent a request must be there when the answer comes, or htmx puts the answer nowhere
    if (cell.matches(".htmx-request") || cell.querySelector(".htmx-request")) return true;
    const active = document.activeElement;
    if (active && cell.contains(active) && active.matches("input, select, textarea, summary")) return true;
    if (cell.querySelector("details[open].menu, dialog[open]")) return true;
    const selection = getSelection();
    return !selection.isCollapsed && selection.containsNode(cell, true);
  }

  function copyAttributes(from, to) {
    const keep = OURS.filter((name) => to.classList.contains(name));
    for (const { name } of [...to.attributes]) if (!from.hasAttribute(name)) to.removeAttribute(name);
    for (const { name, value } of from.attributes) if (to.getAttribute(name) !== value) to.setAttribute(name, value);
    if (keep.length) to.classList.add(...keep);
  }

  // A checked box, an open fold and the place of the keyboard are the reader's, not the server's
  function replace(cell, fresh) {
    const focusable = "a[href], button";
    const focused = [...cell.querySelectorAll(focusable)].indexOf(document.activeElement);
    const checked = new Set([...cell.querySelectorAll("input:checked")].map((box) => box.value));
    const open = new Set([...cell.querySelectorAll("details[open][id]")].map((fold) => fold.id));
    const scrolled = [...cell.querySelectorAll("pre")].map((box) => [box.scrollTop, box.scrollLeft]);
    copyAttributes(fresh, cell);
    cell.replaceChildren(...fresh.childNodes);
    cell.querySelectorAll("input[type=checkbox]").forEach((box) => { box.checked = checked.has(box.value); });
    cell.querySelectorAll("details[id]").forEach((fold) => { if (open.has(fold.id)) fold.open = true; });
    cell.querySelectorAll("pre").forEach((box, i) => { if (scrolled[i]) [box.scrollTop, box.scrollLeft] = scrolled[i]; });
    if (focused >= 0) cell.querySelectorAll(focusable)[focused]?.focus({ preventScroll: true });
    window.relay.watch(cell);
    return cell;
  }

  function tint(element) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    element.classList.remove("flash");
    void element.offsetWidth; // starts the animation anew
    element.classList.add("flash");
    element.addEventListener("animationend", () => element.classList.remove("flash"), { once: true });
  }

  function patch(target, fresh) {
    window.relay.deny?.(fresh); // so that it differs only where it says something new
    const before = cellsOf(target);
    const after = cellsOf(fresh);
    copyAttributes(fresh, target);
    if (!after.length || before.length !== after.length) return [replace(target, fresh)];
    const changed = [];
    before.forEach((cell, i) => {
      waiting.delete(cell);
      if (facts(cell) === facts(after[i])) return;
      if (busy(cell)) waiting.set(cell, after[i]);
      else changed.push(replace(cell, after[i]));
    });
    if (target.matches("tr") && changed.some((cell) => !("quiet" in cell.dataset))) tint(target);
    return changed;
  }

  function catchUp() {
    for (const [cell, fresh] of waiting) {
      if (!cell.isConnected) waiting.delete(cell);
      else if (!busy(cell)) { waiting.delete(cell); htmx.process(replace(cell, fresh)); }
    }
  }
  for (const name of ["focusout", "selectionchange", "toggle", "close", "htmx:afterRequest"]) {
    document.addEventListener(name, () => { if (waiting.size) setTimeout(catchUp); }, true);
  }

  htmx.defineExtension("cells", {
    isInlineSwap: (style) => style === "cells",
    handleSwap: (style, target, fragment) => style === "cells" && patch(target, fragment.firstElementChild ?? fragment),
  });
})();
