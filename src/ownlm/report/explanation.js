"use strict";
// Shows a head's map large, and its weights in words. The page says everything else without this script.
(() => {
  const data = JSON.parse(document.getElementById("attention").textContent);
  const count = data.tokens.length;
  const maps = [...document.querySelectorAll(".map")];
  const panel = document.querySelector(".chosen");
  const large = panel.querySelector(".large");
  const looks = [...panel.querySelectorAll(".looks button")];
  let weights = null, query = count - 1, key = 0;

  // A map is a PNG of one gray IDAT chunk without row filters (gray_png.py): white is 0, black 1, in square roots.
  async function read(source) {
    const bytes = Uint8Array.from(atob(source.slice(source.indexOf(",") + 1)), (c) => c.charCodeAt(0));
    const length = new DataView(bytes.buffer).getUint32(33);
    const body = new Blob([bytes.subarray(41, 41 + length)]).stream();
    const rows = new Uint8Array(await new Response(body.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
    return (row, column) => ((255 - rows[row * (count + 1) + 1 + column]) / 255) ** 2;
  }

  function percent(share) {
    return share >= 0.0995 ? `${Math.round(100 * share)}%` : `${(100 * share).toFixed(1)}%`;
  }

  function strongest(row) {
    let best = 0;
    for (let column = 1; column < count; column++) if (weights(row, column) > weights(row, best)) best = column;
    return best;
  }

  function point(row, column) {
    query = Math.max(0, Math.min(count - 1, row));
    key = Math.max(0, Math.min(count - 1, column));
    const size = 100 / count;
    Object.assign(large.querySelector(".row").style, { top: `${query * size}%`, height: `${size}%` });
    Object.assign(large.querySelector(".column").style, { left: `${key * size}%`, width: `${size}%` });
    panel.querySelector(".pair").textContent =
      `${query} “${data.tokens[query]}” looks at ${key} “${data.tokens[key]}” with ${percent(weights(query, key))} of its weight`;
    looks.forEach((button, place) => {
      const share = weights(query, place);
      button.style.setProperty("--s", Math.sqrt(share).toFixed(3));
      button.title = `${place}: ${percent(share)}`;
      button.setAttribute("aria-pressed", place === query);
    });
  }

  function list() {
    const pairs = [];
    for (let row = 1; row < count; row++)
      for (let column = 0; column < count; column++) pairs.push([weights(row, column), row, column]);
    pairs.sort((a, b) => b[0] - a[0]);
    panel.querySelector(".pairs").replaceChildren(...pairs.slice(0, 10).map(([share, row, column]) => {
      const line = document.createElement("tr");
      const cells = [`${row} ${data.tokens[row]}`, `${column} ${data.tokens[column]}`, percent(share)];
      cells.forEach((text, place) => {
        const cell = line.appendChild(document.createElement("td"));
        cell.textContent = text;
        if (place === 2) cell.className = "number";
      });
      return line;
    }));
  }

  async function choose(map, scroll) {
    const number = maps.indexOf(map);
    const source = map.querySelector("img").src;
    weights = await read(source);
    maps.forEach((other) => other.setAttribute("aria-pressed", other === map));
    panel.hidden = false;
    panel.querySelector("h3").textContent = map.getAttribute("aria-label");
    panel.querySelector(".measures").textContent = "Mean share of weight: " + data.patterns
      .map((name, place) => [name, data.measures[number][place]])
      .filter(([, share]) => share !== null)
      .map(([name, share]) => `${name} ${percent(share)}`).join(" · ");
    large.querySelector("img").src = source;
    point(query, strongest(query));
    list();
    if (scroll && getComputedStyle(panel).position === "static") panel.scrollIntoView({ block: "start" });
  }

  maps.forEach((map) => map.addEventListener("click", () => choose(map, true)));
  looks.forEach((button, place) => button.addEventListener("click", () => point(place, strongest(place))));
  const follow = (event) => {
    const box = large.getBoundingClientRect();
    point(Math.floor((event.clientY - box.top) / box.height * count), Math.floor((event.clientX - box.left) / box.width * count));
  };
  large.addEventListener("pointermove", follow);
  large.addEventListener("pointerdown", follow);
  large.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    point(query + step[0], key + step[1]);
  });
  if (maps.length) choose(maps.find((map) => map.classList.contains("named")) || maps[0], false);
})();
