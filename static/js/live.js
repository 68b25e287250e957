// The live socket: how it is opened, what the header says of it, and which hosts' verdicts are old.
(() => {
  "use strict";
  const SILENCE = 15000; // ms without a pulse after which the connection counts as dead
  const SLOWEST = 5000; // ms between two attempts, at most
  const SIGNED_OUT = 4401;
  const FORBIDDEN = 4403;
  const RETRIED = [1006, 1011, 1012, 1013]; // by the ws extension itself

  const header = document.getElementById("live");
  const holder = document.getElementById("socket");
  const pulse = () => document.getElementById("pulse");
  const list = () => document.getElementById("list");
  const stream = () => document.querySelector("#stream, #findings, #incidents, #alerts");
  let socket = null; // the one that counts
  let wrapper = null;
  let lastPulse = Date.now();
  let state = header?.dataset.state;

  const delay = (attempt) => Math.random() * Math.min(SLOWEST, 500 * 2 ** attempt);
  htmx.config.wsReconnectDelay = delay;

  // What is on the screen, so that the server can say what has changed since
  function view() {
    const params = new URLSearchParams(list() ? list().dataset.query : holder.dataset.view);
    if (list()) {
      params.set("view", "fleet");
      params.set("shown", [...document.querySelectorAll("#list tr[data-run]")].map((row) => row.dataset.run).join(","));
    }
    const shown = stream();
    if (shown) {
      new URLSearchParams(shown.dataset.query).forEach((value, name) => params.set(name, value));
      if (shown.dataset.newest) params.set("newest", shown.dataset.newest);
    }
    const rows = [...document.querySelectorAll("#incidents tr[data-incident]")].map((row) => row.dataset.incident);
    if (rows.length) params.set("rows", rows.join(","));
    const cards = [...document.querySelectorAll("[data-remediation]")].map((card) => card.dataset.remediation);
    if (cards.length) params.set("remediation", cards.join(","));
    params.set("position", Math.max(Number(pulse().dataset.position), Number(list()?.dataset.position ?? 0)));
    return params.toString();
  }

  if (holder) {
    htmx.createWebSocket = (url) => {
      socket = new WebSocket(`${url}?${view()}`);
      return socket;
    };
  }

  function setState(next) {
    if (!header || state === next) return;
    state = next;
    header.dataset.state = next;
    showTitle();
  }

  function silentHosts() {
    const now = window.relay.now();
    return [...document.querySelectorAll("#pulse [data-poller]")].filter(
      ({ dataset }) => !dataset.last || now - Date.parse(dataset.last) > 1000 * Number(dataset.silentAfter),
    );
  }

  // Over verdicts of a host whose poller is silent stands since when; nothing of it looks green
  function markStale() {
    const silent = new Map(silentHosts().map(({ dataset }) => [dataset.poller, dataset.last]));
    const known = new Set([...document.querySelectorAll("#pulse [data-poller]")].map(({ dataset }) => dataset.poller));
    for (const element of document.querySelectorAll("[data-host]")) {
      const { host } = element.dataset;
      if (!known.has(host)) continue;
      element.classList.toggle("stale", silent.has(host));
      const time = silent.get(host) && element.querySelector(".as-of time");
      if (time) {
        time.dateTime = silent.get(host);
        time.textContent = window.relay.clock(time.dateTime);
      }
    }
    document.documentElement.toggleAttribute("data-stale-hosts", silent.size > 0);
    if (header && silent.size) {
      const oldest = [...silent.values()].filter(Boolean).sort()[0];
      header.querySelector("[data-stale-poller]").textContent = [...silent.keys()].join(", ");
      header.querySelector("[data-stale-since]").textContent = oldest ? window.relay.clock(oldest) : "its start";
    }
    return silent.size > 0;
  }

  // What the page is called and looks like in the tab while nothing rings and all is fresh
  const icon = document.getElementById("icon");
  const own = { title: document.title.replace(/^▲ /, ""), icon: icon?.getAttribute("href") };

  function showTitle() {
    if (!header || !icon) return;
    const page = document.getElementById("state")?.dataset ?? own;
    const bell = document.getElementById("bell")?.dataset ?? {};
    const old = state === "stale" || state === "reconnecting" || state === "out";
    document.title = (old ? "… " : "") + (bell.mark ?? "") + page.title;
    const wanted = old ? icon.dataset.old : bell.icon || page.icon;
    if (icon.getAttribute("href") !== wanted) icon.setAttribute("href", wanted);
  }

  showTitle();

  function refresh() {
    const stale = markStale();
    if (!header || !holder || state === "out" || state === "forbidden") return;
    if (!socket || socket.readyState !== WebSocket.OPEN || !wrapper) setState("reconnecting");
    else setState(stale ? "stale" : "live");
  }

  function reconnect() {
    setState("reconnecting");
    wrapper?.reconnect();
  }

  document.addEventListener("htmx:wsOpen", ({ detail }) => {
    wrapper = detail.socketWrapper;
    lastPulse = Date.now();
  });

  document.addEventListener("htmx:wsClose", ({ detail }) => {
    const { event } = detail;
    if (event.target !== socket) return; // of a connection that was given up
    wrapper = detail.socketWrapper;
    if (event.code === SIGNED_OUT) setState("out");
    else if (event.code === FORBIDDEN) setState("forbidden");
    else {
      setState("reconnecting");
      if (!RETRIED.includes(event.code)) setTimeout(() => { if (event.target === socket) reconnect(); }, delay(2));
    }
  });

  // A frame for something that this page no longer shows is not an error; one that tells of the list as it was filtered
  // before would take the filter out of the links that somebody is about to click
  document.addEventListener("htmx:wsBeforeMessage", (event) => {
    const head = /^[^>]*>/.exec(event.detail.message)?.[0] ?? "";
    const id = /\bid="([^"]+)"/.exec(head)?.[1];
    const query = /\bdata-query="([^"]*)"/.exec(head)?.[1].replaceAll("&amp;", "&");
    const here = (list() ?? stream())?.dataset.query;
    if (!id || !document.getElementById(id) || (query !== undefined && query !== here)) event.preventDefault();
  });

  document.addEventListener("htmx:wsAfterMessage", ({ detail }) => {
    if (detail.message.includes('id="pulse"')) {
      lastPulse = Date.now();
      window.relay.setClock(pulse().dataset.now);
      refresh();
    } else if (detail.message.includes('id="state"') || detail.message.includes('id="bell"')) showTitle();
    else if (state === "stale") markStale();
  });

  // The list shows something else now: the server is told, over the same socket
  document.addEventListener("htmx:afterSettle", ({ detail }) => {
    const places = [detail.elt, detail.target].filter(Boolean);
    const lists = ["list", "stream", "findings", "incidents", "alerts", "preview"];
    const told = (place) => lists.includes(place.id) || "remediation" in place.dataset;
    if (!places.some(told)) return;
    if (socket?.readyState === WebSocket.OPEN) socket.send(view());
    markStale();
    showTitle();
  });

  // A list that was asked for after the session ended is the sign-in page: go there with the whole page
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (xhr && new URL(xhr.responseURL).pathname === document.body.dataset.login) {
      event.preventDefault();
      location.reload();
    }
  });

  // Nobody looks, nothing is asked for
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.elt.id === "usage") event.preventDefault();
  });

  setInterval(() => {
    if (holder && state !== "out" && state !== "forbidden" && Date.now() - lastPulse > SILENCE) {
      lastPulse = Date.now();
      reconnect();
    }
    refresh();
  }, 1000);
})();
