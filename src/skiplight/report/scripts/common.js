// What every page is made of: elements, sections, charts that fit their column, controls, the theme.

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const count = d3.format(",");
const short = (value) => d3.format(Math.abs(value) < 1e4 ? ",~r" : ".3~s")(+d3.format(".3r")(value).replace("\u2212", "-"));
const percent = (share) => d3.format(share < 0.0995 ? ".2~p" : ".1%")(share).replace("%", "\u202f%");
/** The short name of a metric. */
const briefly = (name) => name.replace(/^evaluation\//, "").replace(/^heldout\//, "held-out ").replace(/^loss$/, "training loss");
const palette = ["var(--accent)", ...d3.schemeObservable10.slice(1)];

/** An element; children are nodes or text, and never markup. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** A section of the page, which the bar at the top leads to. */
function section(id, title, ...children) {
  main.append(el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), ...children));
  document.querySelector("header nav").append(el("a", { href: `#${id}` }, title));
}

/** A chart as wide as its column, drawn again when that changes: `draw(width)` gives an SVG. */
function chart(draw, label, ...caption) {
  const host = el("div");
  let drawn = 0;
  host.redraw = () => {
    drawn = host.clientWidth || drawn;
    if (!drawn) return;
    const svg = draw(drawn);
    const drawing = svg.tagName === "svg" ? svg : svg.querySelector("svg");
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", label);
    host.replaceChildren(svg);
  };
  new ResizeObserver(() => host.clientWidth !== drawn && host.redraw()).observe(host);
  return Object.assign(el("figure", {}, host, caption.length ? el("figcaption", {}, ...caption) : null), { redraw: host.redraw });
}

/** Plot.plot in the page's style. */
function plot(width, options) {
  return Plot.plot({
    width,
    height: Math.min(300, Math.max(220, width * 0.6)),
    marginLeft: 48,
    marginRight: 18,
    marginBottom: 40,
    ...options,
    x: { labelOffset: 36, ...options.x },
    style: { background: "transparent", color: "var(--ink)", fontSize: "12px", overflow: "visible", ...options.style },
  });
}

/** Of several choices one, as buttons: `change(value)` is called with what is chosen. */
function choice(legend, values, chosen, change) {
  const name = `choice-${document.querySelectorAll("fieldset").length}-${Math.random().toString(36).slice(2)}`;
  const radio = (value) => el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => change(value) });
  return el("fieldset", { class: "choice" }, el("legend", {}, legend), values.map((value) => el("label", {}, radio(value), value)));
}

/** A menu of values with a label before it. */
function menu(label, values, chosen, change, named = (value) => value) {
  const options = values.map((value, i) => el("option", { value: i, selected: value === chosen }, named(value)));
  return el("label", {}, label, el("select", { onchange: (event) => change(values[+event.target.value]) }, options));
}

/** A slider with its value beside it; the arrow keys move it by a step. */
function slider(id, label, { min, max, step, value, format = String }, change) {
  const shown = el("output", { for: id }, format(value));
  const input = el("input", { type: "range", id, min, max, step, value, "aria-valuetext": format(value) });
  input.addEventListener("input", () => {
    shown.textContent = format(+input.value);
    input.setAttribute("aria-valuetext", format(+input.value));
    change(+input.value);
  });
  return el("div", { class: "slider" }, el("label", { for: id }, label), input, shown);
}

/** A name that may be broken behind its dots. */
const breakable = (name) => (typeof name === "string" ? name.replace(/([._/])(?=.)/g, "$1\u200b") : name);

/** A table of columns {title, number, cell(row), key(row)}; with keys it is sorted by the button of a column. */
function table(columns, rows, { kind = "", mark = () => "", caption = "" } = {}) {
  const body = el("tbody");
  const fill = (sorted) => body.replaceChildren(...sorted.map((row) =>
    el("tr", { class: mark(row) || null, "data-row": row.number ?? null },
      columns.map((column) => el("td", { class: column.number ? "number" : column.kind ?? null }, column.cell(row))))));
  const heads = columns.map((column) => {
    if (!column.key) return el("th", { scope: "col", class: column.number ? "number" : null }, breakable(column.title));
    const head = el("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": "none" });
    head.append(el("button", { type: "button", onclick: () => {
      const falling = head.getAttribute("aria-sort") === "ascending" || (head.getAttribute("aria-sort") === "none" && column.number);
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      // What a row lacks stands last either way.
      const lacks = (value) => value === null || value === undefined || value === "";
      fill(rows.toSorted((a, b) => lacks(column.key(a)) - lacks(column.key(b)) || (falling ? d3.descending : d3.ascending)(column.key(a), column.key(b))));
    } }, breakable(column.title)));
    return head;
  });
  fill(rows);
  return el("div", { class: "scroll" }, el("table", { class: kind || null, "aria-label": caption || null }, el("thead", {}, el("tr", {}, heads)), body));
}

function tiles(figures) {
  return el("dl", { class: "tiles" }, figures.map(([name, value, note]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value, note ? el("small", {}, note) : null))));
}

/** What lines are, by [name, colour, style of the line]. */
function legend(entries) {
  return el("ul", { class: "legend" }, entries.map(([name, colour, style = "solid"]) => el("li", {}, el("i", { style: `color: ${colour}; border-top-style: ${style}` }), name)));
}

/** A colour of the style sheet as the canvas needs it. */
function colour(name) {
  const probe = document.body.appendChild(el("span", { style: `color: var(--${name})` }));
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const themed = []; // called when colours have changed

function setUpTheme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show this page in ${dark() ? "light" : "dark"} colours`);
    for (const redraw of themed) redraw();
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  for (const event of ["beforeprint", "afterprint"]) addEventListener(event, () => themed.forEach((redraw) => redraw()));
  show();
}
