"use strict";
(() => {
  const panels = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const stored = (kind, name, value) => {
    // A page from a disk may have no storage; it works without.
    try {
      return value === undefined ? kind().getItem(name) : kind().setItem(name, value);
    } catch { return null; }
  };
  const local = () => window.localStorage, session = () => window.sessionStorage;

  // Dark and light.
  const root = document.documentElement, button = document.getElementById("theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { button.textContent = isDark() ? "Light page" : "Dark page"; };
  const theme = stored(local, "sndqn-theme");
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  button.hidden = false;
  label();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored(local, "sndqn-theme", root.dataset.theme);
    label();
  });

  // The legend hides and shows arms in every figure.
  const kept = `sndqn-hidden ${document.title}`;
  const hidden = new Set((stored(session, kept) || "").split(" ").filter(Boolean));
  const keys = [...document.querySelectorAll(".legend button")];
  const show = () => {
    for (const key of keys) key.setAttribute("aria-pressed", String(!hidden.has(key.dataset.arm)));
    for (const part of document.querySelectorAll("svg .arm")) {
      part.classList.toggle("off", hidden.has(part.dataset.arm));
    }
  };
  for (const key of keys) {
    key.addEventListener("click", () => {
      const arm = key.dataset.arm;
      if (!hidden.delete(arm)) hidden.add(arm);
      stored(session, kept, [...hidden].join(" "));
      show();
    });
  }
  if (keys.length) show();

  // Values under the pointer, or at the place that the arrow keys move to.
  const place = (x, y) => {
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(x + 14, innerWidth - width - 6))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? Math.max(6, y - height - 14) : y + 18}px`;
  };
  const hide = () => {
    tip.hidden = true;
    for (const cross of document.querySelectorAll(".cross")) cross.setAttribute("visibility", "hidden");
  };
  const words = (value) => value === null ? "–" : value.toLocaleString("en", { maximumSignificantDigits: 4 });
  const LEFT = 46, RIGHT = 350, WIDTH = 360;
  const select = (svg, index, client) => {
    const panel = panels[svg.dataset.panel];
    const at = Math.max(0, Math.min(index, panel.x.length - 1));
    svg.dataset.at = at;
    const [start, end] = panel.range;
    const px = LEFT + (panel.x[at] - start) / ((end - start) || 1) * (RIGHT - LEFT);
    const cross = svg.querySelector(".cross");
    for (const name of ["x1", "x2"]) cross.setAttribute(name, px);
    cross.setAttribute("visibility", "visible");
    const lines = panel.lines
      .filter((line) => !hidden.has(String(line.arm)) && line.y[at] !== null)
      .sort((a, b) => b.y[at] - a.y[at])
      .map((line) => {
        const ends = line.low[at] === null ? "" : ` [${words(line.low[at])}, ${words(line.high[at])}]`;
        return `${line.label}: ${words(line.y[at])}${ends}, n = ${line.n[at]}`;
      });
    tip.textContent = [`${panel.x_label}: ${words(panel.x[at])}`, ...lines].join("\n");
    const box = svg.getBoundingClientRect();
    place(client ? client.x : box.left + px / WIDTH * box.width, client ? client.y : box.top + 30);
  };
  for (const svg of document.querySelectorAll("svg[data-panel]")) {
    const { x, range } = panels[svg.dataset.panel];
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const px = (event.clientX - box.left) / box.width * WIDTH;
      const value = range[0] + (px - LEFT) / (RIGHT - LEFT) * (range[1] - range[0]);
      let near = 0;
      x.forEach((each, index) => { if (Math.abs(each - value) < Math.abs(x[near] - value)) near = index; });
      select(svg, near, { x: event.clientX, y: event.clientY });
    });
    svg.addEventListener("keydown", (event) => {
      const at = Number(svg.dataset.at ?? x.length);
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: x.length - 1 }[event.key];
      if (event.key === "Escape") hide();
      if (to === undefined) return;
      event.preventDefault();
      select(svg, to);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
  }
  for (const part of document.querySelectorAll("[data-tip]")) {
    part.addEventListener("pointermove", (event) => {
      tip.textContent = part.dataset.tip;
      place(event.clientX, event.clientY);
    });
    part.addEventListener("pointerleave", hide);
  }
})();
