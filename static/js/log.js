// One log: followed over a socket of its own, paused, wrapped, and read further up. Lines come rendered by the server.
(() => {
  "use strict";
  const MOST = 5000; // lines that the page keeps
  const SLOWEST = 5000; // ms between two attempts to connect, at most
  const WHY_NOT = { 4401: "signed out: reload the page", 4403: "this page may not listen here", 4404: "this log is gone" };
  const kept = (name, value) => {
    try { return value === undefined ? localStorage.getItem(name) : localStorage.setItem(name, value); } catch { return null; }
  };

  function open(log) {
    const box = log.querySelector(".log-box");
    if (!box || log.dataset.open) return;
    log.dataset.open = "1";
    const said = log.querySelector("[data-log-state]");
    const pauseButton = log.querySelector("[data-log-pause]");
    const wrapButton = log.querySelector("[data-log-wrap]");
    let socket = null;
    let attempt = 0;
    let paused = ""; // by whom: the "button", or "reading" further up
    let queue = [];
    let touched = 0; // when somebody last moved the box
    let detached = false; // the end is not in the page any more

    const chunks = () => [...box.querySelectorAll(".chunk")];
    const lines = () => chunks().reduce((sum, chunk) => sum + chunk.childElementCount, 0);
    const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    const say = (text) => { if (said.textContent !== text) said.textContent = text; };

    // -- the part of the log that is shown

    function earlierLink() {
      const begin = box.querySelector(".chunk [data-o]")?.dataset.o ?? log.dataset.begin;
      let link = box.querySelector("[data-log-earlier]");
      if (!Number(begin)) { link?.parentElement.remove(); return; }
      if (!link) {
        link = log.querySelector("template.log-earlier").content.cloneNode(true).querySelector("a");
        box.prepend(link.parentElement);
      }
      const url = new URL(log.dataset.lines, location.href);
      url.searchParams.set("before", begin);
      link.href = url;
    }

    function trim() {
      let count = lines();
      if (count <= MOST) return;
      for (const chunk of chunks()) {
        if (count - chunk.childElementCount < MOST / 2) break;
        if (count <= MOST) break;
        count -= chunk.childElementCount;
        chunk.remove();
      }
      earlierLink();
    }

    // A line that had not ended yet comes again, whole
    function join(chunk) {
      const first = chunk.firstElementChild;
      const last = [...box.querySelectorAll(".chunk")].reverse().find((each) => each.lastElementChild)?.lastElementChild;
      if (first?.dataset.o !== undefined && first.dataset.o === last?.dataset.o) last.remove();
    }

    function draw() {
      const arrived = queue;
      queue = [];
      for (const chunk of arrived) {
        join(chunk);
        const after = chunks().at(-1);
        if (after) after.after(chunk);
        else box.append(chunk);
        log.dataset.end = chunk.dataset.end;
        log.dataset.identity = chunk.dataset.identity;
      }
      log.querySelector("[data-log-empty]")?.remove();
      if (!paused) {
        trim();
        box.scrollTop = box.scrollHeight;
      }
      if (socket?.readyState === WebSocket.OPEN) arrived.forEach(() => socket.send("drawn"));
    }

    async function readEarlier(link) {
      const url = new URL(link.href);
      url.searchParams.set("part", "lines");
      pause("reading");
      const answer = await fetch(url);
      if (!answer.ok || answer.redirected) { location.href = link.href; return; }
      const fresh = document.createElement("template");
      fresh.innerHTML = await answer.text();
      const chunk = fresh.content.querySelector(".chunk");
      const height = box.scrollHeight;
      chunks()[0].before(chunk);
      log.dataset.begin = chunk.dataset.begin;
      const begin = Number(chunk.dataset.begin);
      if (begin) { const next = new URL(link.href); next.searchParams.set("before", begin); link.href = next; }
      else link.parentElement.remove();
      box.scrollTop += box.scrollHeight - height;
      while (lines() > MOST && chunks().length > 1) { chunks().at(-1).remove(); detached = true; }
      if (detached) leaveEnd();
    }

    function leaveEnd() {
      socket?.close(1000);
      say("a part of the log, not followed");
      if (pauseButton) pauseButton.textContent = "Go to the end";
    }

    // -- following

    function show() {
      if (!pauseButton || detached) return;
      pauseButton.textContent = paused ? "Go on" : "Pause";
      pauseButton.classList.toggle("on", Boolean(paused));
      if (socket?.readyState === WebSocket.OPEN) say(paused ? "pausing…" : "following"); // until the server says so
    }

    function pause(by) {
      if (!pauseButton || paused === by || (paused && by === "reading")) return;
      paused = by;
      if (socket?.readyState === WebSocket.OPEN) socket.send("pause");
      show();
    }

    function goOn() {
      if (!paused) return;
      paused = "";
      if (socket?.readyState === WebSocket.OPEN) socket.send("go");
      trim();
      box.scrollTop = box.scrollHeight;
      show();
    }

    function connect() {
      const url = new URL(log.dataset.socket, location.href);
      url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      const { run, file, end, identity } = log.dataset;
      url.search = new URLSearchParams({ run, file, from: end, identity });
      const mine = (socket = new WebSocket(url));
      mine.onopen = () => {
        attempt = 0;
        if (paused) mine.send("pause");
        show();
      };
      mine.onmessage = ({ data }) => {
        const holder = document.createElement("template");
        holder.innerHTML = data;
        const element = holder.content.firstElementChild;
        if (element.matches("[data-waiting]")) {
          if (paused) say("paused");
          if (paused && !element.textContent.startsWith("0 ")) pauseButton.textContent = `Go on · ${element.textContent}`;
          return;
        }
        queue.push(element);
        if (queue.length === 1) requestAnimationFrame(draw);
      };
      mine.onclose = ({ code }) => {
        if (mine !== socket || detached || !log.isConnected) return;
        queue = [];
        if (WHY_NOT[code]) { say(WHY_NOT[code]); return; }
        say("reconnecting…");
        setTimeout(() => { if (log.isConnected) connect(); }, Math.random() * Math.min(SLOWEST, 500 * 2 ** attempt++));
      };
    }

    // -- what somebody does

    for (const name of ["wheel", "touchmove", "keydown", "pointerdown"]) {
      box.addEventListener(name, () => { touched = performance.now(); }, { passive: true });
    }
    box.addEventListener("scroll", () => {
      if (performance.now() - touched > 1000) return; // it was us, or lines that have gone
      if (!atEnd()) pause("reading");
      else if (paused === "reading" && !detached) goOn();
    }, { passive: true });
    document.addEventListener("selectionchange", () => {
      const selection = getSelection();
      if (!selection.isCollapsed && box.contains(selection.anchorNode)) pause("reading");
    });
    log.addEventListener("click", (event) => {
      const link = event.target.closest("[data-log-earlier]");
      if (link && pauseButton && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        readEarlier(link);
      }
    });
    pauseButton?.addEventListener("click", () => {
      if (detached) location.href = log.dataset.lines;
      else if (paused) goOn();
      else pause("button");
    });

    function wrap(on) {
      log.classList.toggle("wrap", on);
      wrapButton.setAttribute("aria-pressed", String(on));
      wrapButton.classList.toggle("on", on);
      if (!paused && log.dataset.socket) box.scrollTop = box.scrollHeight;
    }
    wrap((kept("relay-log-wrap") ?? (matchMedia("(max-width: 620px)").matches ? "on" : "off")) === "on");
    wrapButton.addEventListener("click", () => {
      const on = !log.classList.contains("wrap");
      kept("relay-log-wrap", on ? "on" : "off");
      wrap(on);
    });

    const here = box.querySelector(".here");
    if (here) box.scrollTop = here.offsetTop - box.offsetTop - box.clientHeight / 3;
    else if (log.dataset.socket) box.scrollTop = box.scrollHeight;
    if (log.dataset.socket) connect();
  }

  const openAll = () => document.querySelectorAll("#log").forEach(open);
  openAll();
  document.addEventListener("htmx:load", openAll);
})();
