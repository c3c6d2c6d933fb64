// What a reviewer does: finds records, decides about them, saves and loads decisions, by keys.
// --- The list and the counts ----------------------------------------------------------------
const fits = (record, chosen) => {
  const verdict = decisions.get(record.id)?.verdict;
  const states = {
    "": true, undecided: !verdict, lacks: Object.keys(record.lacks).length > 0,
    drawn: record.drawn.length > 0,
  };
  const words = chosen.words.trim().toLowerCase();
  return (states[chosen.state] ?? verdict === chosen.state) &&
    (!words || record.words.includes(words));
};

// Each record has one entry, which is made once: there may be thousands.
const entries = new Map();
const entryOf = (record) => {
  if (!entries.has(record.id)) {
    const mark = make("span", { className: "mark" });
    const button = make("button", { type: "button" }, record.subject, mark);
    button.addEventListener("click", () => go(record));
    entries.set(record.id, { item: make("li", {}, button), button, mark });
    show(record);
  }
  return entries.get(record.id).item;
};

const show = (record) => {
  const entry = entries.get(record?.id);
  if (!entry) return;
  const verdict = decisions.get(record.id)?.verdict;
  entry.button.className = verdict ?? "";
  entry.mark.textContent = verdict ? labels[verdict] : "";
  entry.button.setAttribute("aria-current", String(record === current));
};

const turnTo = (record) => {
  const before = current;
  current = record;
  show(before);
  show(current);
};

const refreshList = () => {
  const chosen = Object.fromEntries(new FormData(filter));
  const fitting = records.filter((record) => fits(record, chosen));
  const isSame = fitting.length === list.childElementCount &&
    fitting.every((record, place) => record === shown[place]);
  shown = fitting;
  if (!isSame) list.replaceChildren(...shown.map(entryOf));
  at("shown").textContent = `${shown.length} of ${records.length} records`;
  entries.get(current?.id)?.item.scrollIntoView({ block: "nearest" });
};

const refreshCounts = () => {
  const count = { accept: 0, edit: 0, reject: 0 };
  for (const { verdict } of decisions.values()) count[verdict] += 1;
  at("progress").max = Math.max(records.length, 1);
  at("progress").value = decisions.size;
  at("counts").textContent =
    `${decisions.size} of ${records.length} decided: ${count.accept} accepted, ` +
    `${count.edit} edited, ${count.reject} rejected`;
};

const refresh = () => { refreshCounts(); refreshList(); render(); };

// --- What a reviewer does -------------------------------------------------------------------
const leaveDraft = () =>
  !draft || !changesOf(current).any || window.confirm("Drop the changes of this record?");

const go = (record) => {
  if (!record || !leaveDraft()) return;
  draft = null;
  turnTo(record);
  refreshList();
  render();
  window.scrollTo(0, 0);
};

const step = (by) => {
  const place = shown.indexOf(current);
  if (place >= 0) return go(shown[place + by]);
  const after = records.indexOf(current); // the filter has hidden it since
  const others = shown.filter((record) => (records.indexOf(record) - after) * by > 0);
  return go(others.at(by > 0 ? 0 : -1));
};

const onward = () => {
  const from = records.indexOf(current);
  const ahead = [...records.slice(from + 1), ...records.slice(0, from)];
  const next = ahead.find((record) => !decisions.has(record.id));
  if (!next) say("Every record has a decision. Save them to a file.");
  turnTo(next ?? current);
  refresh();
  window.scrollTo(0, 0);
};

const decisionOf = (record, verdict, texts = {}, left_out = []) => ({
  id: record.id, digest: record.digest, verdict, texts, left_out,
  note: notes.get(record.id) ?? "",
});

const decide = (verdict) => {
  if (!current || draft) return;
  const before = decisions.get(current.id);
  // Accepting what was edited before keeps the changes, which are on the screen.
  if (verdict === "accept" && before?.verdict === "edit") return onward();
  remember(current, decisionOf(current, verdict));
  onward();
};

const startEdit = () => {
  if (!current || draft) return;
  const decision = decisions.get(current.id);
  draft = {
    texts: { ...current.texts, ...decision?.texts }, left_out: new Set(decision?.left_out ?? []),
  };
  render();
  main.querySelector("textarea")?.focus();
};

const changesOf = (record) => {
  const texts = {};
  for (const [name, text] of Object.entries(draft.texts)) {
    if (text.trim() !== record.texts[name]) texts[name] = text.trim();
  }
  const left_out = [...draft.left_out];
  return { texts, left_out, any: Object.keys(texts).length + left_out.length > 0 };
};

const finishEdit = () => {
  if (!draft) return;
  const empty = [...main.querySelectorAll(".part:not(.gone) textarea")]
    .find((area) => !area.value.trim());
  if (empty) {
    say(`${empty.getAttribute("aria-label")}: a text is needed, or leave the part out.`, true);
    empty.focus();
    return;
  }
  const { texts, left_out, any } = changesOf(current);
  for (const part of parts.filter((one) => left_out.includes(one.name))) {
    for (const field of part.fields) delete texts[field.name];
  }
  remember(current, decisionOf(current, any ? "edit" : "accept", texts, left_out));
  draft = null;
  say("");
  onward();
};

const dropEdit = () => { draft = null; say(""); render(); };

const takeBack = () => {
  if (!current || draft) return;
  remember(current, null);
  refresh();
};

// --- The file of decisions ------------------------------------------------------------------
const save = () => {
  const made = records.map((record) => decisions.get(record.id)).filter(Boolean);
  const content = JSON.stringify({ form, decisions: made }, null, 1);
  const url = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  const link = make("a", { href: url, download: "decisions.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  isSaved = true;
  const open = records.length - made.length;
  say(`Saved ${made.length} decisions; ${open} records have none yet.`);
};

// Takes over what others decided; `isNewer` says whether that comes before what is kept here.
const take = (some, isNewer) => {
  const count = { taken: 0, stale: 0, unknown: 0 };
  for (const decision of some) {
    const record = byId.get(decision?.id);
    if (!record) count.unknown += 1;
    else if (!valid(decision, record)) count.stale += 1;
    else if (isNewer || remembered(record) === undefined) {
      count.taken += 1;
      notes.set(record.id, String(decision.note ?? ""));
      remember(record, decision);
    }
  }
  return count;
};

const load = async (file) => {
  let content = null;
  try {
    content = JSON.parse(await file.text());
  } catch {
    content = null;
  }
  if (content?.form !== form || !Array.isArray(content.decisions)) {
    say(`${file.name} holds no decisions of this page's form, "${form}".`, true);
    return;
  }
  const { taken, stale, unknown } = take(content.decisions, true);
  say(`Took over ${taken} decisions of ${file.name}; ${stale} are about records that have ` +
    `changed since, ${unknown} about none of these.`, stale + unknown > 0);
  draft = null;
  refresh();
};

// --- Begin ----------------------------------------------------------------------------------
const acts = {
  a: () => decide("accept"), e: startEdit, r: () => decide("reject"), u: takeBack,
  n: () => at("note")?.focus(), j: () => step(1), k: () => step(-1), ArrowRight: () => step(1),
  ArrowLeft: () => step(-1), s: save, "/": () => filter.elements.words.focus(),
};
document.addEventListener("keydown", (event) => {
  if (draft && event.key === "Escape") return dropEdit();
  if (draft && event.key === "Enter" && (event.ctrlKey || event.metaKey)) return finishEdit();
  if (event.key === "Escape") return document.activeElement?.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || draft) return undefined;
  if (event.target.closest("input, textarea, select")) return undefined;
  const act = acts[event.key];
  if (!act) return undefined;
  event.preventDefault();
  return act();
});
at("save").addEventListener("click", save);
at("load").addEventListener("change", async ({ target }) => {
  if (target.files[0]) await load(target.files[0]);
  target.value = "";
});
at("keys").addEventListener("click", ({ currentTarget: button }) => {
  at("help").hidden = !at("help").hidden;
  button.setAttribute("aria-expanded", String(!at("help").hidden));
});
filter.addEventListener("input", refreshList);
filter.addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("beforeunload", (event) => {
  const isLost = draft ? changesOf(current).any : !storage && !isSaved;
  if (isLost) event.preventDefault();
});
// Another tab of this page decides about the same records.
window.addEventListener("storage", (event) => {
  const record = records.find((one) => key(one) === event.key);
  if (!record) return;
  const decision = remembered(record);
  if (decision) decisions.set(record.id, decision);
  else decisions.delete(record.id);
  show(record);
  refreshCounts();
  refreshList();
  if (!draft) render();
});

for (const record of records) {
  record.words = [record.id, ...Object.values(record.texts), record.subject].join(" ").toLowerCase();
}
for (const record of records) {
  const decision = remembered(record);
  if (decision) decisions.set(record.id, decision);
  const note = storage?.getItem(noteKey(record)) ?? decision?.note;
  if (note) notes.set(record.id, String(note));
}
const old = take(earlier, false);
if (old.stale + old.unknown) {
  say(`Of the decisions that this page was made with, ${old.stale} are about records that have ` +
    `changed since, and ${old.unknown} about none of these.`, true);
}
isSaved = true;
if (!storage) {
  say("This browser keeps nothing for this page: save your decisions before you close it.", true);
}
filter.reset();
current = records.find((record) => !decisions.has(record.id)) ?? records[0] ?? null;
refresh();
