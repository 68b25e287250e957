// Finding in a formatted document: marks what fits without touching the text, and goes from one to the next.
(() => {
  "use strict";
  if (!("highlights" in CSS)) return;
  let at = 0;

  function ranges(root, wanted) {
    const found = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.toLowerCase();
      for (let i = text.indexOf(wanted); i >= 0; i = text.indexOf(wanted, i + wanted.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, i);
        range.setEnd(walker.currentNode, i + wanted.length);
        found.push(range);
      }
    }
    return found;
  }

  function find(tools, step) {
    const wanted = tools.querySelector("input").value.trim().toLowerCase();
    const root = document.querySelector(tools.dataset.findIn);
    const found = wanted ? ranges(root, wanted) : [];
    at = found.length ? (at + step + found.length) % found.length : 0;
    CSS.highlights.set("found", new Highlight(...found));
    CSS.highlights.set("found-here", new Highlight(...found.slice(at, at + 1)));
    tools.querySelector("[role=status]").textContent = wanted ? `${found.length ? at + 1 : 0} of ${found.length}` : "";
    if (!found.length) return;
    const box = found[at].startContainer.parentElement.closest("pre");
    const place = found[at].getBoundingClientRect();
    box.scrollTop += place.top - box.getBoundingClientRect().top - box.clientHeight / 2;
  }

  addEventListener("input", ({ target }) => {
    const tools = target.closest("[data-find-in]");
    if (tools) { at = 0; find(tools, 0); }
  });
  addEventListener("keydown", (event) => {
    const tools = event.target.closest?.("[data-find-in]");
    if (!tools || event.key !== "Enter") return;
    event.preventDefault();
    find(tools, event.shiftKey ? -1 : 1);
  });
})();
