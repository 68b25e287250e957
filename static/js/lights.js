// The sentence of a light that stands near the edge is moved into the page.
(() => {
  "use strict";
  const MARGIN = 8; // px that stay free at the edge

  function fit({ target }) {
    const says = target.closest?.(".light")?.querySelector(".says");
    if (!says) return;
    says.style.left = says.style.right = "";
    const { left, right } = says.getBoundingClientRect();
    const over = right + MARGIN - document.documentElement.clientWidth;
    const under = MARGIN - left;
    if (over <= 0 && under <= 0) return;
    says.style.left = `${says.offsetLeft + (over > 0 ? -over : under)}px`;
    says.style.right = "auto";
  }

  document.addEventListener("focusin", fit);
  document.addEventListener("pointerover", fit);
})();
