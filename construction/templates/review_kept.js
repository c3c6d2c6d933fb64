// Decisions about records. Each is kept in this browser as soon as it is made, under the digest of
// what was looked at, so that a page that is closed, or made anew, forgets none that still holds.
const { form, parts, records, thumbnails, decisions: earlier } =
  JSON.parse(document.getElementById("data").textContent);
const byId = new Map(records.map((record) => [record.id, record]));
const labels = { accept: "accepted", edit: "edited", reject: "rejected" };
const at = (id) => document.getElementById(id);
const filter = at("filter"), list = at("list"), main = at("record");
const decisions = new Map();
let current = null, draft = null, shown = records, isSaved = true;

// --- What is remembered ---------------------------------------------------------------------
const key = (record) => `tmke-review/${record.id}/${record.digest}`;
let storage = null;
try {
  storage = window.localStorage;
  storage.setItem("tmke-review/probe", "1");
  storage.removeItem("tmke-review/probe");
} catch {
  storage = null;
}

// A decision, null where one was taken back, undefined where there never was one.
const remembered = (record) => {
  try {
    const decision = JSON.parse(storage?.getItem(key(record)) ?? "false");
    return decision === null || valid(decision, record) ? decision : undefined;
  } catch {
    return undefined;
  }
};

const keep = (name, text) => {
  isSaved = false;
  try {
    storage?.setItem(name, text);
  } catch (error) {
    storage = null;
    say(`This browser keeps no more decisions (${error.name}): save them now.`, true);
  }
};

const remember = (record, decision) => {
  if (decision) decisions.set(record.id, decision);
  else decisions.delete(record.id);
  show(record);
  keep(key(record), JSON.stringify(decision));
};

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const valid = (decision, record) =>
  isObject(decision) && decision.id === record.id && decision.digest === record.digest &&
  decision.verdict in labels && isObject(decision.texts ?? {}) &&
  Array.isArray(decision.left_out ?? []);

// --- Small parts of the page ----------------------------------------------------------------
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
};

const say = (text, isBad = false) => {
  at("message").textContent = text;
  at("message").className = isBad ? "bad" : "";
};

const figure = (picture) => {
  const thumbnail = thumbnails[picture.key];
  const image = thumbnail
    ? make("img", { src: thumbnail.uri, width: thumbnail.width, height: thumbnail.height,
        alt: `picture ${picture.name}`, className: thumbnail.tiny ? "tiny" : "" })
    : make("span", { className: "missing", textContent: picture.problem });
  return make("figure", {}, image, make("figcaption", { textContent: picture.name }));
};
