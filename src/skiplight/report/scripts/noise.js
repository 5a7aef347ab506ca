// How often words occur, and how often they are drawn as noise: by this run, and at any exponent and number of negatives.

function showNoise(id, title) {
  const { levels, tokens, examples, head, exponent, negatives, noise: drawn } = data.frequencies;
  const size = d3.sum(levels, ([n]) => n);
  let alpha = exponent, k = negatives;
  let rank = 0;
  const ranked = levels.map(([n, occurs, kept]) => {
    const level = { n, occurs, kept, first: rank + 1, last: rank + n, share: occurs / tokens };
    rank += n;
    return level;
  });
  const trained = d3.sum(ranked, (level) => level.n * level.share * level.kept);
  // Each level as its first and its last rank, so that a line shows it as the step that it is.
  const ends = ranked.flatMap((level) => (level.n > 1 ? [[level.first, level], [level.last, level]] : [[level.first, level]]));

  /** P_n of a word of each level at exponent a. */
  function noise(a) {
    const logs = ranked.map((level) => a * Math.log(level.occurs)), top = d3.max(logs);
    const weights = logs.map((value) => Math.exp(value - top));
    const sum = d3.sum(weights, (weight, i) => weight * ranked[i].n);
    return new Map(ranked.map((level, i) => [level, weights[i] / sum]));
  }
  /** Of a quantity a word, the sum over the words behind the first so many. */
  const behind = (first, of) => d3.sum(ranked, (level) => Math.max(0, level.last - Math.max(first, level.first - 1)) * of(level));
  // What the run drew, which the sliders show too where it is a power; 0 has no place on a logarithmic axis.
  const own = drawn?.probabilities ? new Map(ranked.map((level, i) => [level, drawn.probabilities[i] || NaN])) : null;
  const differs = () => own && (alpha !== drawn.exponent || k !== negatives);
  let now = noise(exponent);
  /** How often a word of a level is drawn as noise for each time that it is a target. */
  const perTarget = (level, p, K) => (K * p * trained) / (level.share * level.kept);

  const most = d3.max([-1, 1.5], (a) => { const p = noise(a); return d3.max(ranked, (level) => perTarget(level, p.get(level), 2 * negatives)); });
  const often = 10 ** Math.ceil(Math.log10(Math.max(100, most)));
  const lowest = d3.min(ranked, (level) => level.share) / 50;
  const rankAxis = { type: "log", domain: [1, Math.max(2, size)], label: "rank of the word", tickFormat: (value) => (Number.isInteger(Math.log10(value)) ? count(value) : "") };
  const power = (value) => { const e = Math.log10(value); return Math.abs(e - Math.round(e)) < 1e-9 ? (e >= -3 && e <= 4 ? d3.format(",~r")(value) : `10${[...String(Math.round(e))].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("")}`) : ""; };
  const decades = (low, high) => d3.range(Math.ceil(Math.log10(low)), Math.log10(high) + 0.5).map((e) => 10 ** e);
  const rare = Plot.rect([{}], { x1: head, x2: size, fill: "var(--ink)", fillOpacity: 0.045 });

  const zipf = chart((width) => plot(width, {
    height: 320,
    x: rankAxis,
    y: { type: "log", domain: [lowest, 1], label: "share", grid: true, tickFormat: power, ticks: decades(lowest, 1) },
    marks: [
      rare,
      Plot.line(ends, { x: ([at]) => at, y: ([, level]) => level.share, stroke: "var(--ink)", strokeWidth: 2 }),
      differs() && alpha !== drawn.exponent ? Plot.line(ends, { x: ([at]) => at, y: ([, level]) => own.get(level), stroke: palette[1], strokeDasharray: "3 3", clip: true }) : null,
      Plot.line(ends, { x: ([at]) => at, y: ([, level]) => now.get(level), stroke: palette[0], strokeWidth: 2.2, clip: true }),
      Plot.text([`rarer than the ${count(head)} most frequent`], { x: size, y: 1, textAnchor: "end", dy: 9, dx: -6, fill: "var(--soft)", text: (text) => text }),
    ],
  }), "Share of each word in the text and in the noise, by rank, both axes logarithmic");
  const draws = chart((width) => plot(width, {
    height: 320,
    x: rankAxis,
    y: { type: "log", domain: [1e-3, often], label: "draws as noise for each time as target", grid: true, tickFormat: power, ticks: decades(1e-3, often) },
    marks: [
      rare,
      Plot.ruleY([1], { stroke: "var(--faint)" }),
      Plot.text(["as often as target"], { x: size, y: 1, dy: -7, dx: -6, textAnchor: "end", fill: "var(--soft)", text: (text) => text }),
      differs() ? Plot.line(ends, { x: ([at]) => at, y: ([, level]) => perTarget(level, own.get(level), negatives), stroke: palette[1], strokeDasharray: "3 3", clip: true }) : null,
      Plot.line(ends, { x: ([at]) => at, y: ([, level]) => perTarget(level, now.get(level), k), stroke: palette[0], strokeWidth: 2.2, clip: true }),
    ],
  }), "Expected draws of a word as noise for each time that it is a target, by rank, both axes logarithmic");

  const said = el("p", { id: "rare", "aria-live": "polite" });
  const words = el("div");
  function update() {
    now = noise(alpha);
    zipf.redraw();
    draws.redraw();
    const half = Math.floor(size / 2), p = (level) => now.get(level), share = (level) => level.share;
    said.replaceChildren(
      "Of all noise draws, ", el("strong", {}, percent(behind(head, p))), ` fall on words rarer than the ${count(head)} most frequent, which make `,
      `${percent(behind(head, share))} of the text’s tokens; `, el("strong", {}, percent(behind(half, p))),
      ` fall on the rarer half of the vocabulary (${percent(behind(half, share))} of the tokens).`);
    const level = (at) => ranked.find((one) => one.first <= at && at <= one.last);
    words.replaceChildren(table([
      { title: "word", cell: ([, word]) => word },
      { title: "rank", number: true, cell: ([at]) => count(at) },
      { title: "occurs", number: true, cell: ([, , occurs]) => count(occurs) },
      { title: "share of noise", number: true, cell: ([at]) => percent(now.get(level(at))) },
      { title: "draws for each time as target", number: true, cell: ([at]) => d3.format(",.2~r")(+d3.format(".2r")(perTarget(level(at), now.get(level(at)), k))) },
    ], examples, { kind: "plain", caption: "Some words" }));
  }
  const set = { alpha: (value) => { alpha = value; update(); }, k: (value) => { k = value; update(); } };
  /** What the lines show of this run. */
  function explain() {
    if (!drawn) return "The objective of this run draws no noise: the sliders say what negative sampling would.";
    if (drawn.error) return `The sliders say what such noise would draw. That of this run is not known: ${drawn.error}`;
    const others = "The sliders say what another choice would draw; the dashed line is this run’s";
    return drawn.exponent === null ? `${others}, noise=${drawn.name}, as it was at the end.` : `${others}.`;
  }
  const named = own && (drawn.exponent === null ? drawn.name : `α = ${drawn.exponent}`);
  section(id, title,
    el("p", { class: "lead" }, "The vocabulary’s Zipf plot, and over it the distribution P", el("sub", {}, "n"), " ∝ count", el("sup", {}, "α"), " from which K noise words are drawn for each window or pair. ",
      explain()),
    el("div", { class: "controls" },
      slider("alpha", "exponent α", { min: -1, max: Math.max(1.5, exponent), step: 0.05, value: exponent, format: d3.format(".2f") }, set.alpha),
      slider("negatives", "negatives K", { min: 1, max: Math.max(50, 2 * negatives), step: 1, value: negatives }, set.k)),
    said,
    legend([["share of the text", "var(--ink)"], ["noise, as the sliders have it", palette[0]], ...(own ? [[`noise of this run: ${named}, K = ${negatives}`, palette[1], "dashed"]] : [])]),
    el("div", { class: "pair" }, zipf, draws),
    el("p", { class: "note" }, "Draws for each time as target: K·P", el("sub", {}, "n"), "(w) / p(w), where p is a word’s share of the targets, after subsampling. With α = 1 and no subsampling it is K for every word."),
    words);
  update();
}
