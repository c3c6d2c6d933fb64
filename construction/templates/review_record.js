// One record on the page: its texts to be read or written, its pictures, what can be done with it.
const textOf = (record, name, decision) => decision?.texts?.[name] ?? record.texts[name];

const warning = (record, field, text) => {
  if (!text.trim()) return "a text is needed";
  const subject = record.subject.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const whole = new RegExp(`(?<![\\p{L}\\p{N}_])${subject}(?![\\p{L}\\p{N}_])`, "iu").test(text);
  if (field.kind === "shown" && whole) return "a question about a picture does not name it";
  const asks = ["question", "paraphrase", "one_hop"].includes(field.name);
  const isNamed = text.toLowerCase().includes(record.subject.toLowerCase());
  return asks && !isNamed ? "the question has to name the subject" : "";
};

const reading = (record, field, decision) => {
  const before = record.texts[field.name], now = textOf(record, field.name, decision);
  const cell = make("dd", { className: field.kind });
  cell.dataset.field = field.name;
  if (before !== now) {
    cell.classList.add("changed");
    cell.append(make("del", { textContent: before }));
  }
  cell.append(now);
  return cell;
};

const writing = (record, field) => {
  const warn = make("span", { className: "warn" });
  const area = make("textarea", {
    name: field.name, rows: 1, value: draft.texts[field.name], spellcheck: true,
  });
  area.setAttribute("aria-label", field.label);
  const check = () => { warn.textContent = warning(record, field, area.value); };
  area.addEventListener("input", () => {
    if (field.name === "entity_type") retype(record, draft.texts.entity_type, area.value);
    draft.texts[field.name] = area.value;
    check();
  });
  check();
  return make("dd", {}, area, warn);
};

// A new type changes what questions about the picture say of it.
const retype = (record, before, after) => {
  if (!before.trim() || !after.trim()) return;
  for (const [name, text] of Object.entries(draft.texts)) {
    const renamed = text
      .replaceAll(`he ${before} in the image`, `he ${after} in the image`)
      .replaceAll(`no ${before} in the image`, `no ${after} in the image`);
    if (name === "entity_type" || renamed === text) continue;
    draft.texts[name] = renamed;
    main.querySelector(`textarea[name="${name}"]`).value = renamed;
  }
};

const partOf = (record, part, decision) => {
  const fields = part.fields.filter((field) => field.name in record.texts);
  const pictures = part.pictures.filter((name) => name in record.pictures);
  if (!fields.length && !pictures.length) return null;
  const gone = draft ? draft.left_out.has(part.name) : decision?.left_out?.includes(part.name);
  const title = make("h3", {}, part.label);
  const lent = part.drops.map((name) => record.lent[name]).find(Boolean);
  if (part.drops.some((name) => record.drawn.includes(name))) {
    const text = lent ? `drawn: row ${lent}` : "drawn";
    title.append(make("span", { className: "drawn", textContent: text }));
  }
  const section = make("section", { className: "part" });
  section.dataset.part = part.name;
  section.classList.toggle("gone", Boolean(gone));
  if (draft && part.drops.length) {
    const box = make("input", { type: "checkbox", name: `without ${part.name}`, checked: gone });
    box.addEventListener("change", () => {
      draft.left_out[box.checked ? "add" : "delete"](part.name);
      section.classList.toggle("gone", box.checked);
    });
    title.append(make("label", {}, box, " leave out"));
  } else if (gone) {
    title.append(make("span", { className: "drawn", textContent: "left out" }));
  }
  const words = make("dl");
  for (const field of fields) {
    words.append(make("dt", { textContent: field.label }),
      draft ? writing(record, field) : reading(record, field, decision));
  }
  section.append(make("div", { className: "words" }, title, words));
  section.append(make("div", {}, ...pictures.map((name) => figure(record.pictures[name]))));
  return section;
};

const actions = () => {
  const button = (className, label, act) => {
    const element = make("button", { type: "button", className, textContent: label });
    element.addEventListener("click", act);
    return element;
  };
  const buttons = draft
    ? [button("accept", "Accept the changes", finishEdit), button("cancel", "Drop them", dropEdit)]
    : [
        button("accept", "Accept (a)", () => decide("accept")),
        button("edit", "Edit (e)", startEdit),
        button("reject", "Reject (r)", () => decide("reject")),
        button("undo", "Take back (u)", takeBack),
        button("previous", "Previous (k)", () => step(-1)),
        button("next", "Next (j)", () => step(1)),
      ];
  return make("div", { className: "actions" }, ...buttons);
};

const notes = new Map();
const noteKey = (record) => `${key(record)}/note`;
const noteOf = (record) => {
  const area = make("textarea", { rows: 1, id: "note", value: notes.get(record.id) ?? "" });
  area.addEventListener("input", () => {
    notes.set(record.id, area.value);
    keep(noteKey(record), area.value);
    const decision = decisions.get(record.id);
    if (decision) remember(record, { ...decision, note: area.value });
  });
  return make("label", { className: "note" }, "Note, kept with the decision", area);
};

const render = () => {
  main.replaceChildren();
  if (!current) {
    main.append(make("p", { className: "empty", textContent: "No record fits." }));
    return;
  }
  const decision = decisions.get(current.id);
  const state = decision ? labels[decision.verdict] : "no decision";
  main.append(make("div", { className: "head" },
    make("h2", { textContent: current.subject }),
    make("span", { className: `state ${decision?.verdict ?? ""}`, textContent: state }),
    make("span", { className: "id", textContent:
      `record ${records.indexOf(current) + 1} of ${records.length}, id ${current.id}` })));
  const lacking = Object.entries(current.lacks);
  if (lacking.length) {
    main.append(make("ul", { className: "lacks" },
      ...lacking.map(([name, why]) => make("li", { textContent: `no ${name}: ${why}` }))));
  }
  main.append(...parts.map((part) => partOf(current, part, decision)).filter(Boolean));
  main.append(noteOf(current), actions());
};
