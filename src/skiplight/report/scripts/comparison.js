// The page of a comparison: every measure of every view, a curve a variant with its spread over the seeds.

function show() {
  const variants = [...new Set(data.views.flatMap((view) => view.measures.flatMap((measure) => Object.keys(measure.curves))))];
  const coloured = d3.scaleOrdinal(variants, palette);
  const runs = data.trials.filter((row) => row.kind === "run");
  main.append(el("h1", {}, data.name), el("p", { class: "lead" },
    `${variants.join(", ")}: ${count(runs.length)} runs and ${count(data.trials.length - runs.length)} trials of a search. Lines are means over the seeds, bands a standard deviation either way.`));
  let axis = "pairs", scale = "linear";
  const charts = [];
  const redraw = () => charts.forEach((figure) => figure.redraw());
  const label = { pairs: "pairs seen", scores: "score evaluations", seconds: "seconds of training", tokens: "tokens" };

  function draw(measure, width) {
    const lines = Object.entries(measure.curves).map(([variant, curve]) => ({ variant, points: d3.range(curve.mean.length).map((i) => ({
      variant, x: curve[axis][i], pairs: curve.pairs[i], scores: curve.scores[i], seconds: curve.seconds[i], mean: curve.mean[i], low: curve.low[i], high: curve.high[i],
    })) }));
    const points = lines.flatMap((line) => line.points);
    // A logarithmic axis of a few hundred: round numbers close to each other.
    const [low, high] = d3.extent([...points.flatMap((point) => [point.low, point.high]), ...(measure.level ? [measure.level[0]] : [])]);
    const round = d3.range(-3, 9).flatMap((e) => [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8].map((m) => m * 10 ** e)).filter((value) => value > low && value < high);
    const ticks = round.length > 2 ? round : d3.ticks(low, high, 5);
    const y = measure.logarithmic ? { type: "log", domain: [low * 0.97, high * 1.03], ticks, tickFormat: count } : { nice: true, ticks: 6 };
    return plot(width, {
      height: 300,
      marginRight: 24,
      x: { type: scale, label: label[axis], tickFormat: short, ticks: Math.max(3, width / 90), ...(scale === "linear" ? { zero: true } : {}) },
      y: { label: null, grid: true, ...y },
      marks: [
        measure.level ? Plot.ruleY([measure.level[0]], { stroke: "var(--faint)", strokeDasharray: "2 3" }) : null,
        measure.level ? Plot.text([measure.level], { frameAnchor: "right", y: (level) => level[0], text: (level) => level[1], textAnchor: "end", dy: -7, fill: "var(--soft)" }) : null,
        lines.map((line) => Plot.areaY(line.points, { x: "x", y1: "low", y2: "high", fill: coloured(line.variant), fillOpacity: 0.16 })),
        lines.map((line) => Plot.lineY(line.points, { x: "x", y: "mean", stroke: coloured(line.variant), strokeWidth: 2, marker: "dot" })),
        Plot.tip(points, Plot.pointer({ x: "x", y: "mean", title: (point) => `${point.variant}\n${d3.format(",.4~r")(point.mean)} (${d3.format(",.4~r")(point.low)} to ${d3.format(",.4~r")(point.high)})\n${short(point.pairs)} pairs, ${short(point.scores)} scores, ${d3.format(",.1f")(point.seconds)} s` })),
      ],
    });
  }

  data.views.forEach((view, i) => section(`view-${i}`, view.name === view.title ? view.name : `View “${view.name}”`,
    el("p", { class: "lead" }, view.title, view.fixed.length ? ". Fixed for all: " : "", view.fixed.flatMap((one, j) => [j ? ", " : "", el("code", {}, one)]), "."),
    i === 0 ? el("div", { class: "controls" },
      choice("Against", ["pairs", "scores", "seconds", "tokens"], axis, (value) => { axis = value; redraw(); }),
      choice("Scale", ["linear", "log"], scale, (value) => { scale = value; redraw(); })) : null,
    legend(Object.keys(Object.assign({}, ...view.measures.map((measure) => measure.curves))).map((variant) => [variant, coloured(variant)])),
    el("div", { class: "pair" }, view.measures.map((measure) => {
      const figure = chart((width) => draw(measure, width), `${measure.title} of each variant over the run`);
      figure.prepend(el("h3", {}, measure.title));
      charts.push(figure);
      return figure;
    }))));

  section("findings", "Findings", el("div", { class: "prose" }, document.getElementById("prose").content.cloneNode(true)));
  const plain = ["run", "state", "view", "variant", "kind", "chosen", "engine"];
  const columns = Object.keys(data.trials[0] ?? {}).filter((name) => name !== "run" && name !== "kind" && (name !== "view" || data.views.length > 1) && data.trials.some((row) => row[name] !== null && row[name] !== "")).map((name) => {
    const number = !plain.includes(name);
    const key = (row) => (number ? (row[name] == null ? null : +row[name]) : row[name]);
    const text = (row) => (number && key(row) !== null ? (Number.isInteger(key(row)) ? count(key(row)) : d3.format(",.4~r")(key(row))) : row[name]);
    return { title: briefly(name), number, key, kind: name === "chosen" ? "value" : null, cell: (row) => (name === "number" ? el("a", { href: row.run }, row.number) : text(row)) };
  });
  const searched = data.trials.filter((row) => row.kind === "search");
  section("runs", "Runs", table(columns, runs, { caption: "Runs" }),
    searched.length ? el("details", {}, el("summary", {}, `${count(searched.length)} trials of the search`), table(columns, searched, { caption: "Trials of the search" })) : null);
}
