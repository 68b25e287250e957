// Follow the stream: while somebody follows and looks at its top, what waits is shown by itself.
(() => {
  "use strict";
  const button = document.getElementById("follow");
  let following = sessionStorage.getItem("follow") === "on";
  let due = null;

  function show() {
    button.setAttribute("aria-pressed", String(following));
    button.classList.toggle("on", following);
    button.textContent = following ? "Following live" : "Follow live";
  }

  // Nothing moves under the pointer, and nothing that somebody reads is taken away
  function undisturbed() {
    const stream = document.getElementById("stream");
    return following && !document.hidden && scrollY < 200 && !("older" in stream.dataset)
      && !stream.querySelector("details.event[open], .event details[open]") && !stream.matches(":has(.event:hover)")
      && getSelection().isCollapsed;
  }

  function catchUp() {
    due = null;
    if (undisturbed()) document.querySelector("#pill a")?.click();
  }

  button.addEventListener("click", () => {
    following = !following;
    sessionStorage.setItem("follow", following ? "on" : "off");
    show();
    catchUp();
  });
  new MutationObserver(() => { due ??= setTimeout(catchUp, 500); })
    .observe(document.querySelector("main"), { childList: true, subtree: true });
  show();
})();
