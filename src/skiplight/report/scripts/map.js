// The map of the most frequent words: pan, zoom, search; a word's neighbours are marked in it and listed beside it.

function showMap(id, title) {
  const { words, counts, searched, vocabulary, groups, layouts } = data.map;
  const near = nearest(data.map.nearest, searched, words.length);
  const mapped = groups.length;
  const names = Object.keys(layouts);
  const panel = el("div", { class: "near", "aria-live": "polite" });
  const map = wordMap(data.map, names.at(-1), (word) => select(word));
  const show = (word) => { select(word); if (word < mapped) map.goTo(word); };
  const every = searched === vocabulary;
  const search = wordSearch(words.slice(0, searched), counts, show, (typed) => {
    map.mark(null, []);
    panel.replaceChildren(el("h3", {}, typed), el("span", { class: "note" }, `not among the ${count(searched)} ${every ? "" : "most frequent "}words`));
  });

  function select(word) {
    const found = near(word);
    map.mark(word < mapped ? word : null, found.map(([other]) => other).filter((other) => other < mapped));
    const row = ([other, cosine]) => el("li", {}, el("button", { type: "button", "data-word": words[other], disabled: other >= searched, onclick: () => show(other) },
      el("span", {}, words[other]), el("i", { style: `--share: ${(100 * Math.max(0, cosine)).toFixed(1)}%` }), el("output", {}, cosine.toFixed(3).replace(/^(-?)0/, "$1"))));
    panel.replaceChildren(
      el("h3", {}, words[word]),
      el("span", { class: "note" }, `rank ${count(word + 1)}, ${count(counts[word])} times in the text${word < mapped ? "" : "; too rare for the map"}`),
      el("ol", { "aria-label": `The words nearest to ${words[word]}, with cosines` }, found.map(row)));
  }

  const how = names.includes("t-SNE")
    ? "t-SNE keeps near words near and says nothing of great distances; PCA shows the two directions of largest variance."
    : "PCA shows the two directions of largest variance only; skiplight report with this folder adds t-SNE, which keeps near words near.";
  section(id, title,
    el("p", { class: "lead" }, mapped < vocabulary ? `The ${count(mapped)} most frequent words. ` : `All ${count(mapped)} words. `, how, ` Colours are ${d3.max(groups) + 1} groups by k-means over all dimensions. `,
      `Click a word, or search ${every ? `any of the ${count(vocabulary)} words` : `one of the ${count(searched)} most frequent`}, for the nearest in the whole vocabulary`,
      every || names.includes("t-SNE") ? "." : "; the page by skiplight report finds more words."),
    names.length > 1 ? el("div", { class: "controls" }, choice("Layout", names.toReversed(), names.at(-1), map.layOut)) : null,
    el("div", { class: "atlas" }, map.node, el("div", {}, search, panel)),
    el("p", { class: "note noprint" }, "Drag to pan; zoom with the buttons, a double click, or the wheel once the map is clicked. By keyboard: ",
      el("kbd", {}, "+"), " ", el("kbd", {}, "−"), " ", el("kbd", {}, "0"), " and the arrows."));

  const first = data.words.map(lookup(words.slice(0, searched))).find((word) => word >= 0);
  select(first ?? Math.min(100, searched - 1));
}

/** The canvas; `chosen(word)` is called when a word is clicked. */
function wordMap({ words, counts, groups, layouts }, layout, chosen) {
  const canvas = el("canvas", { tabindex: 0, role: "application", "aria-label": `Map of ${count(groups.length)} words; the search beside it finds each` });
  const context = canvas.getContext("2d");
  const zoom = d3.zoom().scaleExtent([0.8, 80]).on("zoom", ({ transform }) => { view = transform; draw(); });
  // The wheel scrolls the page until the map is clicked, and one finger does on a phone.
  zoom.filter((event) => !event.button && (event.type !== "wheel" || event.ctrlKey || document.activeElement === canvas) && (!event.touches || event.touches.length > 1));
  const all = d3.range(groups.length);
  const radius = d3.scaleLinear([Math.log(d3.min(all, (i) => counts[i]) + 1), Math.log(d3.max(all, (i) => counts[i]) + 2)], [1.6, 5.5]);
  const sizes = all.map((i) => radius(Math.log(counts[i] + 1)));
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let view = d3.zoomIdentity, [xs, ys] = layouts[layout], width = 0, height = 0;
  let marked = null, others = new Set(), hovered = null, colours = {}, tree = null;
  const widths = new Map();

  // Where a word lies when nothing is zoomed, with room for labels at the edges; a canvas that is no square stretches it.
  let span = [1, 1];
  const planeX = (i) => width / 2 + (xs[i] - 0.5) * span[0];
  const planeY = (i) => height / 2 + (ys[i] - 0.5) * span[1];
  const x = (i) => view.applyX(planeX(i)), y = (i) => view.applyY(planeY(i));
  /** How wide a word is at 12 pixels. */
  function textWidth(i) {
    if (!widths.has(i)) {
      context.font = `500 12px ${colours.font}`;
      widths.set(i, context.measureText(words[i]).width);
    }
    return widths.get(i);
  }

  function draw() {
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const grown = Math.min(2.2, Math.sqrt(view.k));
    const inside = all.filter((i) => x(i) > -40 && x(i) < width + 40 && y(i) > -20 && y(i) < height + 20);
    for (const i of inside) {
      context.globalAlpha = marked === null || i === marked || others.has(i) ? 0.8 : 0.42;
      context.fillStyle = d3.schemeObservable10[groups[i]];
      context.beginPath();
      context.arc(x(i), y(i), sizes[i] * grown, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
    if (marked !== null) {
      context.strokeStyle = colours.accent;
      context.lineWidth = 1;
      for (const i of others) {
        context.globalAlpha = 0.5;
        context.beginPath();
        context.moveTo(x(marked), y(marked));
        context.lineTo(x(i), y(i));
        context.stroke();
      }
      context.globalAlpha = 1;
    }
    // Labels: what is marked, then the most frequent words that find room.
    const taken = new Set();
    const cells = (i, size, [dx, dy]) => {
      const half = (textWidth(i) * size) / 24 + 3, found = [];
      for (let across = Math.floor((x(i) + dx - half) / 12); across <= (x(i) + dx + half) / 12; across++)
        for (let down = Math.floor((y(i) + dy - size) / 7); down <= (y(i) + dy + 2) / 7; down++) found.push(across * 4096 + down);
      return found;
    };
    /** Takes room for a label above its word or, where `always` it must stand, wherever there is some around it. */
    const place = (i, size, always) => {
      const half = (textWidth(i) * size) / 24 + 4, gap = sizes[i] * grown + 3, aside = half + gap - 1;
      // A label at the edge is moved inwards, as far as its word lies within the map.
      const within = ([dx, dy]) => (x(i) < 0 || x(i) > width ? [dx, dy] : [Math.max(half, Math.min(width - half, x(i) + dx)) - x(i), dy]);
      const turns = d3.range(12).map((turn) => (turn * Math.PI) / 6);
      const around = () => d3.range(6).flatMap((ring) =>
        turns.map((turn) => [Math.cos(turn) * (aside + 24 * ring), Math.sin(turn) * (size + 2) * (ring + 1) + 0.35 * size]));
      const places = [[0, -gap], ...(always ? [[0, gap + 0.8 * size], ...around()] : [])].map(within);
      const spot = places.find((one) => cells(i, size, one).every((cell) => !taken.has(cell))) ?? (always ? places[0] : null);
      if (spot !== null) for (const cell of cells(i, size, spot)) taken.add(cell);
      return spot;
    };
    const label = (i, size, weight, fill, [dx, dy]) => {
      context.font = `${weight} ${size}px ${colours.font}`;
      context.lineWidth = 3.5;
      context.strokeStyle = colours.panel;
      context.fillStyle = fill;
      context.strokeText(words[i], x(i) + dx, y(i) + dy);
      context.fillText(words[i], x(i) + dx, y(i) + dy);
    };
    const strong = [marked, ...others, hovered].filter((i, at, all) => i !== null && all.indexOf(i) === at);
    const placed = strong.map((i) => [i, place(i, i === marked ? 15 : 13, true)]);
    let left = 240;
    for (const i of inside) {
      if (left === 0) break;
      const spot = strong.includes(i) ? null : place(i, 11, false);
      if (spot === null) continue;
      label(i, 11, 400, marked === null ? colours.ink : colours.soft, spot);
      left--;
    }
    context.lineWidth = 1;
    context.strokeStyle = colours.faint;
    for (const [i, [dx, dy]] of placed) {
      if (Math.hypot(dx, dy) < 26) continue;
      context.beginPath();
      context.moveTo(x(i), y(i));
      context.lineTo(x(i) + dx, y(i) + dy - 4);
      context.stroke();
    }
    for (const [i, spot] of placed.toReversed()) {
      if (i === marked) {
        context.fillStyle = colours.warm;
        context.beginPath();
        context.arc(x(i), y(i), sizes[i] * grown + 2, 0, 2 * Math.PI);
        context.fill();
      }
      label(i, i === marked ? 15 : 13, i === marked ? 700 : 600, i === marked ? colours.warm : others.has(i) ? colours.accent : colours.ink, spot);
    }
  }

  function fit() {
    const ratio = devicePixelRatio || 1;
    [width, height] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    span = [Math.min(width - 70, 1.4 * (height - 40)), Math.min(height - 40, 1.4 * (width - 70))];
    colours = Object.fromEntries(["ink", "soft", "faint", "panel", "accent", "warm"].map((name) => [name, colour(name)]));
    colours.font = getComputedStyle(document.body).fontFamily;
    context.textAlign = "center";
    context.lineJoin = "round";
    zoom.translateExtent([[-width, -height], [2 * width, 2 * height]]).extent([[0, 0], [width, height]]);
    tree = null;
    draw();
  }

  /** The word within reach of a pointer, or null. */
  function at(event) {
    tree ??= d3.quadtree(all, planeX, planeY);
    return tree.find(...view.invert(d3.pointer(event, canvas)), 16 / view.k) ?? null;
  }

  const selection = d3.select(canvas).call(zoom);
  const moved = (time = 250) => (smooth ? selection.transition().duration(time) : selection);
  canvas.addEventListener("click", (event) => {
    canvas.focus({ preventScroll: true });
    const word = at(event);
    if (word !== null) chosen(word);
  });
  canvas.addEventListener("pointermove", (event) => {
    const word = event.buttons ? null : at(event);
    canvas.style.cursor = word === null ? "" : "pointer";
    if (word !== hovered) { hovered = word; draw(); }
  });
  canvas.addEventListener("pointerleave", () => { hovered = null; draw(); });
  const zoomBy = (factor) => moved().call(zoom.scaleBy, factor);
  const reset = () => moved().call(zoom.transform, d3.zoomIdentity);
  const keys = {
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), "0": reset,
    ArrowLeft: () => moved(120).call(zoom.translateBy, 60 / view.k, 0), ArrowRight: () => moved(120).call(zoom.translateBy, -60 / view.k, 0),
    ArrowUp: () => moved(120).call(zoom.translateBy, 0, 60 / view.k), ArrowDown: () => moved(120).call(zoom.translateBy, 0, -60 / view.k),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  new ResizeObserver(fit).observe(canvas);
  themed.push(fit);

  const button = (text, label, click) => el("button", { type: "button", "aria-label": label, onclick: click }, text);
  return {
    node: el("div", { class: "canvas" }, canvas, el("div", { class: "buttons" },
      button("+", "Zoom in", () => zoomBy(1.6)), button("−", "Zoom out", () => zoomBy(1 / 1.6)), button("All", "Show the whole map", reset))),
    mark(word, found) { marked = word; others = new Set(found); draw(); },
    goTo(word) {
      const near = d3.zoomIdentity.translate(width / 2, height / 2).scale(Math.max(view.k, 3)).translate(-planeX(word), -planeY(word));
      moved(500).call(zoom.transform, near);
    },
    layOut(name) {
      const [fromX, fromY] = [xs, ys], [toX, toY] = layouts[name];
      tree = null;
      const timer = d3.timer((elapsed) => {
        const share = smooth ? Math.min(1, elapsed / 700) : 1, eased = d3.easeCubicInOut(share);
        xs = toX.map((to, i) => fromX[i] + (to - fromX[i]) * eased);
        ys = toY.map((to, i) => fromY[i] + (to - fromY[i]) * eased);
        draw();
        if (share === 1) { timer.stop(); tree = null; }
      });
    },
  };
}

/** A search box that completes words, the most frequent first: `chosen(word)` is called with what is taken, `missed(text)` with what is no word. */
function wordSearch(words, counts, chosen, missed) {
  const list = el("ul", { id: "found", role: "listbox", "aria-label": "Words", hidden: true });
  const input = el("input", {
    id: "search", type: "search", placeholder: "Search a word", autocomplete: "off", spellcheck: "false", role: "combobox",
    "aria-label": "Search a word", "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list",
  });
  const find = lookup(words), folded = words.map((word) => word.toUpperCase());
  let found = [], active = -1;

  function complete() {
    const given = input.value.trim(), typed = given.normalize().toUpperCase();
    const begin = [], within = [];
    for (let i = 0; typed && i < folded.length && begin.length < 8; i++) {
      if (folded[i].startsWith(typed)) begin.push(i);
      else if (within.length < 8 && folded[i].includes(typed)) within.push(i);
    }
    const exact = find(given);
    found = [...new Set([...(exact >= 0 ? [exact] : []), ...begin, ...within])].slice(0, 8);
    active = found.length ? 0 : -1;
    list.replaceChildren(...found.map((word, i) => el("li", { id: `found-${i}`, role: "option", onmousedown: (event) => { event.preventDefault(); take(i); } },
      words[word], el("small", {}, count(counts[word])))));
    open(Boolean(found.length));
    if (typed && !found.length) missed(given);
  }
  function open(yes) {
    list.hidden = !yes;
    input.setAttribute("aria-expanded", yes);
    list.childNodes.forEach((item, i) => item.setAttribute("aria-selected", i === active));
    if (yes && active >= 0) input.setAttribute("aria-activedescendant", `found-${active}`);
    else input.removeAttribute("aria-activedescendant");
  }
  function take(i) {
    if (!(i in found)) return;
    input.value = words[found[i]];
    open(false);
    chosen(found[i]);
  }
  input.addEventListener("input", complete);
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", () => open(false));
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      active = (active + step + found.length) % found.length;
      open(true);
    } else if (event.key === "Enter") take(active);
    else if (event.key === "Escape") open(false);
    else return;
    event.preventDefault();
  });
  return el("div", { class: "search" }, input, list);
}
