// Every option of the run, those that differ from their defaults first, and what the run ran on.

function showSettings(id, title) {
  const columns = [
    { title: "option", kind: "value", cell: (option) => option.name },
    { title: "value", kind: "value", cell: (option) => option.value },
    { title: "default", kind: "value", cell: (option) => option.default },
    { title: "what it is", cell: (option) => option.help },
  ];
  const changed = data.settings.filter((option) => option.changed);
  const groups = d3.group(data.settings, (option) => (option.name.includes(".") ? option.name.split(".")[0] : "run"));
  const flat = (value, name = "") => (value !== null && typeof value === "object" ? Object.entries(value).flatMap(([key, inner]) => flat(inner, name ? `${name}.${key}` : key)) : [[name, String(value ?? "")]]);
  section(id, title,
    el("details", { open: true }, el("summary", {}, changed.length === 1 ? "1 option differs from its default" : `${changed.length} options differ from their defaults`), table(columns, changed)),
    [...groups].map(([name, options]) => el("details", {}, el("summary", {}, name), table(columns, options))),
    el("details", {}, el("summary", {}, "environment"), table([
      { title: "", kind: "value", cell: ([name]) => name }, { title: "", kind: "value", cell: ([, value]) => value },
    ], flat(data.environment))));
}
