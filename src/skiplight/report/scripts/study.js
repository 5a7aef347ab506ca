// The page of a study: heatmaps, parallel coordinates, importance, and every trial in a table that can be sorted.

function show() {
  const { trials, swept, targets, metrics, best } = data;
  const done = trials.filter((trial) => trial.state === "complete" && targets.every((metric) => metric in trial.metrics));
  const states = d3.rollups(trials, (group) => group.length, (trial) => trial.state).map(([state, n]) => `${count(n)} ${state}`);
  const goal = targets.map((metric, i) => `${data.directions[i] === "maximize" ? "highest" : "lowest"} ${metric}`).join(" and ");
  const running = trials.filter((trial) => trial.state === "running").length;
  main.append(el("h1", {}, data.name), el("p", { class: "lead" }, `${count(trials.length)} trials: ${states.join(", ")}. Ranked by ${goal}.`,
    data.incomparable.length ? ` Perplexities are omitted, since they cannot be compared over different ${data.incomparable.join(", ")}.` : ""),
    running ? el("p", { class: "note", id: "running" }, `${running === 1 ? "A trial was" : `${running} trials were`} training when this page was made: skiplight report makes it anew.`) : "");
  if (best) showBest(best);
  if (!done.length) {
    showTrialCurves(trials, () => targets[0]);
    section("trials", "Trials", trialTable(trials));
    return;
  }
  let metric = targets[0];
  const redraws = [];
  const chooseMetric = () => menu("Metric to show", Object.keys(metrics), metric, (value) => { metric = value; redraws.forEach((redraw) => redraw()); });
  const options = data.varying.filter((name) => name !== "seed");
  main.append(el("div", { class: "controls" }, chooseMetric()));
  if (options.length > 1) showHeatmaps(done, options, () => metric, redraws);
  if (options.length) showOptions(done, options, () => metric, redraws);
  if (options.length > 1) showParallel(done, options, () => metric, redraws);
  if (Object.keys(data.importance).length) showImportance();
  if (targets.length > 1) showFront(done);
  redraws.push(showTrialCurves(trials, () => metric));
  section("trials", "Trials", trialTable(trials));
}

// What the table has for an option that a trial does not read.
const reading = (rows, ...names) => rows.filter((row) => names.every((name) => row.params[name] !== "n/a"));
const isNumeric = (values) => values.every((value) => typeof value === "number");
const distinct = (rows, of) => { const values = [...new Set(rows.map(of))]; return isNumeric(values) ? d3.sort(values) : values.sort(d3.ascending); };
const shortly = (value) => (typeof value === "number" ? (Math.abs(value) >= 1000 ? d3.format(",.4~r")(value) : d3.format(".3~r")(value)) : String(value ?? "–"));
/** Colours of metrics between two, yellow for the better end. */
const ramp = (low, high, up) => { const scale = d3.scaleSequential(low === high ? [low - 1, high + 1] : up ? [low, high] : [high, low], d3.interpolateViridis); return (value) => (Number.isFinite(value) ? scale(value) : "var(--line)"); };

function showBest(best) {
  const read = (params) => Object.entries(params).filter(([, value]) => value !== "n/a");
  const figure = (name) => [briefly(name), shortly(best.mean[name]), best.error[name] !== undefined ? `± ${d3.format(".2~r")(best.error[name])} (standard error of ${best.trials.length} seeds)` : `trial ${best.trials.join(", ")}`];
  const names = [...data.targets, ...Object.keys(best.mean).filter((name) => /^(evaluation|heldout)\//.test(name) && !data.targets.includes(name))];
  section("best", "Best",
    el("ul", { class: "chips" }, read(best.params).map(([name, value]) => el("li", {}, `${name}=${value}`))),
    tiles(names.map(figure)),
    data.best_by.map((by) => el("p", { class: "best-by" }, el("strong", {}, `Best by ${briefly(by.metric)}: `), `trial ${by.trials.join(", ")}, `,
      `${data.targets.map((name) => `${briefly(name)} ${shortly(by.mean[name])}`).join(", ")}, with `, el("code", {}, read(by.params).map(([name, value]) => `${name}=${shortly(value)}`).join(" ")))),
    el("details", {}, el("summary", {}, "As an experiment to train again"), el("pre", {}, best.yaml), el("pre", {}, best.command)));
}

/** The bands of an axis from 0 to 1, one for each value: as far from each other as the values are, if these are numbers. */
function bands(values, name) {
  const position = isNumeric(values) ? (data.logarithmic.includes(name) ? Math.log : Number) : (value) => values.indexOf(value);
  const at = values.map(position), gap = at.length > 1 ? d3.min(d3.pairs(at), ([a, b]) => b - a) : 1;
  const edges = [at[0] - (at.length > 1 ? at[1] - at[0] : gap) / 2, ...d3.pairs(at).map(([a, b]) => (a + b) / 2), at.at(-1) + (at.length > 1 ? at.at(-1) - at.at(-2) : gap) / 2];
  const share = d3.scaleLinear([edges[0], edges.at(-1)], [0, 1]);
  const found = new Map(values.map((value, i) => [value, { low: share(edges[i]), high: share(edges[i + 1]), middle: (share(edges[i]) + share(edges[i + 1])) / 2 }]));
  const ticks = values.map((value) => found.get(value).middle);
  return { of: (value) => found.get(value), ticks, named: (tick, i) => shortly(values[i]) };
}

function showHeatmaps(done, options, metric, redraws) {
  const usual = ["noise.exponent", "noise.negatives", "model.dim"];
  const order = d3.sort(options, (name) => { const at = usual.indexOf(name); return at < 0 ? usual.length : at; });
  let [down, across] = order;
  const host = el("div", { class: "grid" });
  function draw() {
    const panels = options.filter((name) => name !== down && name !== across);
    const panel = panels.find((name) => usual.includes(name)) ?? null;
    const read = reading(done, down, across);
    const cells = d3.flatRollup(read, (rows) => ({ mean: d3.mean(rows, (row) => row.metrics[metric()]), rows }),
      (row) => (panel ? row.params[panel] : ""), (row) => row.params[down], (row) => row.params[across])
      .map(([of, y, x, { mean, rows }]) => ({ of, x, y, mean, rows }));
    const fill = ramp(d3.min(cells, (cell) => cell.mean), d3.max(cells, (cell) => cell.mean), data.metrics[metric()]);
    const xs = distinct(read, (row) => row.params[across]), ys = distinct(read, (row) => row.params[down]);
    const horizontal = bands(xs, across), vertical = bands(ys, down), height = Math.max(150, ys.length * 34 + 60);
    const middle = { x: (cell) => horizontal.of(cell.x).middle, y: (cell) => vertical.of(cell.y).middle };
    const span = ({ low, high }) => high - low;
    const roomy = (width, cell) => span(horizontal.of(cell.x)) * (width - 80) > 34 && span(vertical.of(cell.y)) * (height - 60) > 14;
    host.replaceChildren(...distinct(cells, (cell) => cell.of).map((of) => {
      const own = cells.filter((cell) => cell.of === of);
      const dark = (cell) => { const c = d3.hcl(fill(cell.mean)); return c.l > 62; };
      const figure = chart((width) => plot(width, {
        height,
        marginLeft: 62,
        marginBottom: 40,
        x: { type: "linear", domain: [0, 1], label: across, tickSize: 0, ticks: horizontal.ticks, tickFormat: horizontal.named },
        y: { type: "linear", domain: [0, 1], label: down, tickSize: 0, ticks: vertical.ticks, tickFormat: vertical.named },
        marks: [
          Plot.rect(own, { x1: (cell) => horizontal.of(cell.x).low, x2: (cell) => horizontal.of(cell.x).high, y1: (cell) => vertical.of(cell.y).low, y2: (cell) => vertical.of(cell.y).high, fill: (cell) => fill(cell.mean), inset: 0.7, rx: 3 }),
          Plot.text(own.filter((cell) => roomy(width, cell)), { ...middle, text: (cell) => shortly(cell.mean), fill: (cell) => (dark(cell) ? "#111" : "#fff") }),
          Plot.tip(own, Plot.pointer({ ...middle, title: (cell) => `${shortly(cell.mean)}\n${down} ${shortly(cell.y)}, ${across} ${shortly(cell.x)}${panel ? `\n${panel} ${shortly(cell.of)}` : ""}\ntrial ${cell.rows.map((row) => row.number).join(", ")}` })),
        ],
      }), `${metric()} by ${down} and ${across}${panel ? ` at ${panel} ${of}` : ""}`);
      figure.prepend(el("h3", {}, briefly(metric()), panel ? ` at ${panel} = ${shortly(of)}` : ""));
      return figure;
    }));
  }
  redraws.push(draw);
  section("heatmap", "Heatmap",
    el("p", { class: "lead" }, "The mean of the trials in each cell, over seeds and options that are not shown; the yellower the better."),
    order.length > 2 ? el("div", { class: "controls" },
      menu("down", order, down, (value) => { if (value === across) across = down; down = value; draw(); }),
      menu("across", order, across, (value) => { if (value === down) down = across; across = value; draw(); })) : null,
    host);
  draw();
}

/** The type of an option's axis: that of its search. */
const axisOf = (name, numeric) => (numeric && data.logarithmic.includes(name) ? { type: "log", ticks: 4, tickFormat: shortly } : { type: numeric ? "linear" : "point", nice: numeric });

function showOptions(done, options, metric, redraws) {
  const charts = options.map((name) => {
    const rows = reading(done, name);
    const figure = chart((width) => {
      const numeric = isNumeric(rows.map((row) => row.params[name]));
      const means = d3.rollups(rows, (rows) => d3.mean(rows, (row) => row.metrics[metric()]), (row) => row.params[name]);
      const points = d3.sort(means, ([value]) => value);
      return plot(width, {
        height: 230,
        x: { label: name, ...axisOf(name, numeric) },
        y: { label: null, grid: true, nice: true, tickFormat: shortly },
        marks: [
          points.length < rows.length && points.length <= 20 ? Plot.line(points, { x: ([value]) => value, y: ([, mean]) => mean, stroke: "var(--accent)", strokeWidth: 2 }) : null,
          Plot.dot(rows, { x: (row) => row.params[name], y: (row) => row.metrics[metric()], fill: palette[0], fillOpacity: 0.5, r: 3 }),
          Plot.tip(rows, Plot.pointer({ x: (row) => row.params[name], y: (row) => row.metrics[metric()], title: (row) => `trial ${row.number}\n${shortly(row.metrics[metric()])}\n${Object.entries(row.params).map(([key, value]) => `${key} ${shortly(value)}`).join("\n")}` })),
        ],
      });
    }, `The chosen figure by ${name}, a dot a trial`);
    figure.prepend(el("h3", {}, name));
    redraws.push(figure.redraw);
    return figure;
  });
  section("options", "Each option", el("p", { class: "lead" }, "A dot is a trial; the line joins means over all other options."), el("div", { class: "grid" }, charts));
}

/** Of ticks those that leave room for their texts. */
const apart = (ticks, scale) => ticks.reduce((kept, tick) => (kept.length && Math.abs(scale(tick) - scale(kept.at(-1))) < 0.09 ? kept : [...kept, tick]), []);

function showParallel(done, options, metric, redraws) {
  const figure = chart((width) => {
    const dimensions = [...options, metric()];
    const value = (row, name) => (name === metric() ? row.metrics[name] : row.params[name]);
    const scales = new Map(dimensions.map((name) => {
      const values = distinct(name === metric() ? done : reading(done, name), (row) => value(row, name));
      const scale = !isNumeric(values) ? d3.scalePoint(values, [0, 1])
        : (data.logarithmic.includes(name) ? d3.scaleLog() : d3.scaleLinear()).domain(values.length > 1 ? d3.extent(values) : [values[0] * 0.9, values[0] * 1.1 || 1]).range([0, 1]);
      const ticks = !isNumeric(values) || values.length <= 6 ? values : apart(scale.ticks(5), scale);
      return [name, { scale, ticks }];
    }));
    const points = done.flatMap((row) => dimensions.map((name) => ({ row, name, y: value(row, name) === "n/a" ? NaN : scales.get(name).scale(value(row, name)) })));
    const fill = ramp(d3.min(done, (row) => row.metrics[metric()]), d3.max(done, (row) => row.metrics[metric()]), data.metrics[metric()]);
    const up = data.metrics[metric()] ? 1 : -1, room = (width - 82) / dimensions.length;
    return plot(width, {
      height: 340,
      marginLeft: 20,
      marginRight: 62,
      marginTop: 34,
      marginBottom: 16,
      x: { type: "point", domain: dimensions, axis: "top", tickSize: 0, label: null, tickFormat: (name) => (room > 7 * d3.max(dimensions, (other) => other.length) ? name : name.split(/[./]/).at(-1)) },
      y: { axis: null, domain: [0, 1] },
      marks: [
        Plot.ruleX(dimensions, { stroke: "var(--line)" }),
        Plot.line(points, { x: "name", y: "y", z: (point) => point.row.number, stroke: (point) => fill(point.row.metrics[metric()]), strokeWidth: 1.6, strokeOpacity: 0.85, sort: { value: (point) => up * point.row.metrics[metric()] } }),
        Plot.text(dimensions.flatMap((name) => scales.get(name).ticks.map((tick) => ({ name, tick, y: scales.get(name).scale(tick) }))),
          { x: "name", y: "y", text: ({ tick }) => shortly(tick), dx: 5, textAnchor: "start", stroke: "var(--paper)", strokeWidth: 4, fill: "var(--ink)" }),
        Plot.line(points, Plot.pointer({ x: "name", y: "y", z: (point) => point.row.number, stroke: "var(--warm)", strokeWidth: 3 })),
        Plot.tip(points, Plot.pointer({ x: "name", y: "y", title: ({ row }) => `trial ${row.number}: ${shortly(row.metrics[metric()])}` })),
      ],
    });
  }, "A line for each trial through its options to the chosen figure");
  redraws.push(figure.redraw);
  section("parallel", "Parallel coordinates", el("p", { class: "lead" }, "A line is a trial, the yellower the better."), figure);
}

function showImportance() {
  const found = Object.entries(data.importance).map(([name, share]) => ({ name, share }));
  section("importance", "Importance",
    el("p", { class: "lead" }, `How much each option decides whether a trial is among the better by ${data.targets[0]} (PED-ANOVA; shares of 1).`),
    chart((width) => plot(width, {
      height: found.length * 30 + 46,
      marginLeft: Math.min(170, width * 0.4),
      marginRight: 50,
      x: { label: "share", domain: [0, d3.max(found, (one) => one.share) || 1], grid: true, ticks: 5 },
      y: { label: null, domain: found.map((one) => one.name), tickSize: 0 },
      marks: [
        Plot.barX(found, { x: "share", y: "name", fill: palette[0], insetTop: 4, insetBottom: 4, rx2: 2 }),
        Plot.text(found, { x: "share", y: "name", text: (one) => one.share.toFixed(2), dx: 6, textAnchor: "start" }),
      ],
    }), "Importance of each option"));
}

function showFront(done) {
  const [first, second] = data.targets;
  const front = d3.sort(done.filter((row) => data.front.includes(row.number)), (row) => row.metrics[second]);
  const at = { x: (row) => row.metrics[second], y: (row) => row.metrics[first] };
  section("front", "Pareto front",
    el("p", { class: "lead" }, "The trials on the line are those that no other beats in one figure without being worse in the other."),
    chart((width) => plot(width, {
      height: 340,
      x: { label: second, nice: true, tickFormat: shortly },
      y: { label: first, grid: true, nice: true, tickFormat: shortly },
      marks: [
        Plot.dot(done, { ...at, fill: palette[0], fillOpacity: 0.4 }),
        Plot.line(front, { ...at, stroke: palette[1], strokeWidth: 2, marker: "dot" }),
        Plot.text(front, { ...at, text: (row) => String(row.number), dy: -9, stroke: "var(--paper)", strokeWidth: 4, fill: "var(--ink)" }),
        Plot.tip(done, Plot.pointer({ ...at, title: (row) => `trial ${row.number}\n${shortly(row.metrics[first])}, ${shortly(row.metrics[second])}` })),
      ],
    }), `${first} against ${second}, with the Pareto front`),
    table([
      { title: "trial", number: true, cell: (row) => trialLink(row) },
      ...data.swept.map((name) => ({ title: name, number: true, cell: (row) => shortly(row.params[name]) })),
      ...data.targets.map((name) => ({ title: briefly(name), number: true, cell: (row) => shortly(row.metrics[name]) })),
    ], front, { caption: "Pareto front" }));
}

const trialLink = (row) => (row.link ? el("a", { href: row.link }, String(row.number)) : String(row.number));

/** The curves of all trials, coloured by the chosen metric; returns what draws them again. */
function showTrialCurves(trials, metric) {
  // By rank, so that a trial which has diverged does not make all others alike.
  const ranked = () => d3.sort(trials.filter((row) => Number.isFinite(row.metrics[metric()])), (row) => (data.metrics[metric()] ? 1 : -1) * row.metrics[metric()]);
  const shade = (row) => { const order = ranked(), at = order.indexOf(row); return at < 0 ? "var(--faint)" : d3.interpolateViridis(order.length > 1 ? at / (order.length - 1) : 1); };
  const runs = trials.map((row) => ({ name: `trial ${row.number}`, curves: row.curves, colour: () => shade(row), width: data.best?.trials.includes(row.number) ? 3 : 1.2 }));
  const lead = `A line is a trial, the yellower the better by the chosen metric; ${data.best ? "thick lines are of the best" : "none is complete yet"}.`;
  return showCurves("curves", "Curves", el("p", { class: "lead" }, lead), runs);
}

function trialTable(trials) {
  const columns = [
    { title: "trial", number: true, key: (row) => row.number, cell: (row) => trialLink(row) },
    { title: "state", key: (row) => row.state, cell: (row) => (row.error ? el("span", { title: row.error }, row.state) : row.state) },
    { title: "seed", number: true, key: (row) => row.seed, cell: (row) => String(row.seed) },
    ...data.swept.map((name) => ({ title: name, number: isNumeric(trials.map((row) => row.params[name]).filter((value) => value !== undefined && value !== "n/a")), key: (row) => (row.params[name] === "n/a" ? null : row.params[name]), cell: (row) => shortly(row.params[name]) })),
    ...Object.keys(data.metrics).filter((name) => data.targets.includes(name) || /^(evaluation|heldout)\//.test(name)).map((name) => ({ title: briefly(name), number: true, key: (row) => row.metrics[name], cell: (row) => shortly(row.metrics[name]) })),
    { title: "seconds", number: true, key: (row) => row.seconds, cell: (row) => (row.seconds === null ? "" : row.seconds.toFixed(1)) },
  ];
  const failed = trials.filter((row) => row.error);
  return el("div", {}, el("p", { class: "note" }, "The number of a trial leads to its page, which skiplight report makes, else to its folder. The heads of the columns sort."),
    table(columns, trials, { caption: "Trials", mark: (row) => (data.best?.trials.includes(row.number) ? "best" : "") }),
    failed.length ? el("details", { open: true }, el("summary", {}, `${failed.length} failed`), table([{ title: "trial", number: true, cell: (row) => String(row.number) }, { title: "why", cell: (row) => row.error }], failed)) : null);
}
