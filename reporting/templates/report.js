// The gallery's filter. Without it every case is shown and open.
(() => {
  "use strict";
  const form = document.getElementById("filter");
  if (!form) return;
  const cases = [...document.querySelectorAll("details.case")];
  const groups = [...document.querySelectorAll("section.group")];
  const toggle = document.getElementById("toggle");
  const shown = document.getElementById("shown");

  const fits = (one, chosen) =>
    ["editor", "model", "scenario"].every((f) => !chosen[f] || one.dataset[f] === chosen[f]) &&
    (!chosen.picked || one.dataset.picked.split(" ").includes(chosen.picked)) &&
    (!chosen.chain || one.dataset.chain.split("; ").includes(chosen.chain));

  const filter = () => {
    const chosen = Object.fromEntries(new FormData(form));
    let count = 0;
    for (const one of cases) {
      let rows = 0;
      for (const row of one.querySelectorAll("tr[data-probe]")) {
        row.hidden = Boolean(chosen.probe) && row.dataset.probe !== chosen.probe;
        rows += row.hidden ? 0 : 1;
      }
      one.hidden = rows === 0 || !fits(one, chosen);
      count += one.hidden ? 0 : 1;
    }
    for (const group of groups) {
      group.hidden = group.querySelector(".case") && !group.querySelector(".case:not([hidden])");
    }
    shown.textContent = `${count} of ${cases.length} cases`;
  };

  toggle.addEventListener("click", () => {
    const open = toggle.getAttribute("aria-pressed") !== "true";
    for (const one of cases) one.open = open;
    toggle.setAttribute("aria-pressed", String(open));
    toggle.textContent = open ? "Close all" : "Open all";
  });
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());

  // A line a case is enough to look for one; the first of each editor shows what is inside.
  for (const one of cases) one.open = one.matches("h3 ~ .case:nth-of-type(1)");
  form.reset();
  form.hidden = false;
  filter();
})();
