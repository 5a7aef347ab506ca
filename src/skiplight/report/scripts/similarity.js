// What people say of pairs of words against what the vectors say, and which analogies they solve.

const WORST = 6;

function showSimilarity(id, title) {
  const charts = Object.entries(data.similarity).map(([name, rows]) => {
    const pairs = rows.map(([first, second, people, cosine, nearer]) => ({ first, second, people, cosine, nearer }));
    const result = data.summary.evaluation[name] ?? {};
    const sorted = d3.sort(pairs, (pair) => pair.nearer);
    const far = sorted.slice(0, Math.min(WORST, pairs.length >> 1)), near = sorted.slice(-Math.min(WORST, pairs.length >> 1)).toReversed();
    const middle = d3.mean(d3.extent(pairs, (pair) => pair.people));
    const named = (pair) => `${pair.first} – ${pair.second}`;
    const colour = (pair) => (near.includes(pair) ? palette[1] : far.includes(pair) ? palette[2] : palette[0]);
    const scatter = chart((width) => plot(width, {
      height: Math.min(420, width * 0.8),
      marginTop: 36, // room for the name of a pair below that of the axis
      x: { label: "people’s judgement", nice: true },
      y: { label: "cosine", grid: true, nice: true, zero: true, ticks: 6 },
      marks: [
        Plot.dot(pairs, { x: "people", y: "cosine", r: 3, fill: colour, fillOpacity: (pair) => (colour(pair) === palette[0] ? 0.45 : 0.95) }),
        [near[0], far[0]].filter(Boolean).map((pair) => Plot.text([pair], {
          x: "people", y: "cosine", text: named, dy: -9, textAnchor: pair.people > middle ? "end" : "start", fontWeight: 600, stroke: "var(--paper)", strokeWidth: 4, fill: "var(--ink)",
        })),
        Plot.tip(pairs, Plot.pointer({ x: "people", y: "cosine", title: (pair) => `${named(pair)}\npeople ${pair.people}\ncosine ${pair.cosine.toFixed(3)}` })),
      ],
    }), `${name}: cosine against people’s judgement of ${pairs.length} pairs`,
    `Spearman ${result.score?.toFixed(3)}, Pearson ${result.pearson?.toFixed(3)}, ${count(pairs.length)} pairs; ${percent(result.oov ?? 0)} left out for a word out of vocabulary.`);
    scatter.prepend(el("h3", {}, name));
    const worst = (rows, text, colour) => el("div", {}, legend([[text, colour]]), table([
      { title: "pair", cell: named },
      { title: "people", number: true, cell: (pair) => d3.format(".3~r")(pair.people) },
      { title: "cosine", number: true, cell: (pair) => pair.cosine.toFixed(2) },
    ], rows, { kind: "worst", caption: `${name}: ${text}` }));
    return el("div", {}, scatter, el("div", { class: "narrow grid" }, worst(near, "nearer than people say", palette[1]), worst(far, "farther than people say", palette[2])));
  });
  section(id, title, el("p", { class: "lead" }, "A dot is a pair of words. The worst are those whose rank by cosine is farthest from their rank by people."), el("div", { class: "pair" }, charts));
}

function showAnalogies(id, title, sets) {
  const charts = sets.map(([name, result]) => {
    const sections = Object.entries(result.sections).filter(([, [, asked]]) => asked).map(([section, [right, asked]]) => ({ section, right, asked, share: right / asked }));
    const figure = chart((width) => plot(width, {
      height: sections.length * 24 + 50,
      marginLeft: 186,
      marginRight: 84,
      x: { domain: [0, Math.max(0.1, d3.max(sections, (one) => one.share))], tickFormat: "%", label: "answered rightly", grid: true, ticks: width / 120 },
      y: { label: null, domain: sections.map((one) => one.section), tickSize: 0 },
      marks: [
        Plot.barX(sections, { x: "share", y: "section", fill: palette[0], insetTop: 2, insetBottom: 2, rx2: 2 }),
        Plot.text(sections, { x: "share", y: "section", textAnchor: "start", dx: 6, fill: "var(--soft)", text: (one) => `${count(one.right)} of ${count(one.asked)}` }),
        Plot.ruleX([result.score], { stroke: "var(--warm)", strokeDasharray: "4 3" }),
        Plot.ruleX([0], { stroke: "var(--faint)" }),
      ],
    }), `${name}: share of analogies answered rightly, by section`,
    `${count(result.questions)} questions, ${percent(result.score)} right (the dashed line); ${percent(result.oov)} not asked, for a word out of vocabulary.`);
    figure.prepend(el("h3", {}, name));
    return figure;
  });
  section(id, title, el("p", { class: "lead" }, "A is to B as C is to what? The answer is the word nearest to B − A + C, those three left out."), charts);
}
