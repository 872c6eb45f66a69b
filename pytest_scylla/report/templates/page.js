"use strict";
// Runs on what the page carries with it, and makes nothing but elements and text nodes of it: no text is ever markup.
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const TEXTS = DATA.texts;
  const PAGE = 100; // rows of the list at a time
  const PRINTED = 1000;
  const FOLDED = 2500; // runs above which a subtest is one cell until it is opened
  const OWN = "\x01"; // an item's run, at the beginning of a file's name
  const FACETS = [
    ["status", "Status"],
    ["outcome", "Outcome"],
    ["tier", "Tier"],
    ["judge", "Judge"],
    ["code", "Finding"],
  ];
  const number = (value) => value.toLocaleString("en");
  const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;
  const spoken = (word) => word.replaceAll("_", " ");

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) {
        element.setAttribute(name, value === true ? "" : value);
      }
    }
    element.append(...children.flat().filter((child) => child !== null && child !== ""));
    return element;
  }

  function wordsOf(kind, status) {
    const words = Object.hasOwn(DATA.words, kind) ? DATA.words[kind] : {};
    return Object.hasOwn(words, status) ? words[status] : null;
  }

  function styleOf(kind, status) {
    return wordsOf(kind, status) ? `s-${status}` : "s-other";
  }

  function letterOf(kind, status) {
    const words = wordsOf(kind, status);
    return words ? words[0] : "!";
  }

  function swatch(kind, status) {
    return make("span", { class: `swatch ${styleOf(kind, status)}`, "aria-hidden": "true" }, letterOf(kind, status));
  }

  function score(value) {
    return value === null ? "–" : value.toFixed(3);
  }

  function scoreOf(run) {
    if (run.score === null || run.scored) return score(run.score);
    const sound = run.judges.filter((judge) => judge.status === "complete").length;
    return `${score(run.score)}, not counted: ${number(sound)} of ${plural(run.judges.length, "judge")} sound`;
  }

  function isFallback(judge) {
    return judge.passed === 2;
  }

  function verdictOf(judge) {
    if (isFallback(judge)) return "fallback";
    if (judge.passed === null) return "–";
    return judge.passed ? "passed" : "not passed";
  }

  function shellQuoted(text) {
    return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\"'\"'")}'`;
  }

  // What the data says, in words instead of numbers

  function readItem(packed, experiment) {
    const [place, slot, kind, before, status, outcome, findings, actions, left, remedy, waiver] = packed;
    const run = typeof place === "number" ? experiment.runs[place] : null;
    const own = run ? run.id : place;
    return {
      kind: TEXTS[kind],
      id: run && slot ? `${run.id}/judge_${String(slot).padStart(2, "0")}` : own,
      run,
      slot,
      tier: own.includes("/") ? own.split("/")[0] : "",
      before: TEXTS[before],
      status: TEXTS[status],
      outcome: TEXTS[outcome],
      findings: findings.map(([code, error, file, pointer, message]) => ({
        code: TEXTS[code],
        error: Boolean(error),
        file: TEXTS[file].startsWith(OWN) ? `${own}/${TEXTS[file].slice(OWN.length)}` : TEXTS[file],
        short: TEXTS[file].startsWith(OWN) ? TEXTS[file].slice(OWN.length) : TEXTS[file],
        pointer: TEXTS[pointer],
        message: TEXTS[message],
      })),
      actions: actions.map((text) => TEXTS[text]),
      left,
      remedy: TEXTS[remedy],
      waiver: TEXTS[waiver],
      told: true,
    };
  }

  function readExperiment(packed) {
    const models = packed.models.map((place) => TEXTS[place]);
    const experiment = { command: packed.command, models, cut: packed.cut, runs: [], items: [], told: [] };
    experiment.runs = packed.runs.map(([id, status, value, passed, cost, judges, scored], place) => {
      const [tier, subtest = "", ...rest] = id.split("/");
      return {
        place, id, tier, subtest, name: rest.join("/"), status: TEXTS[status], score: value, passed, cost,
        scored: Boolean(scored),
        judges: judges.map(([state, given, verdict, model], index) => ({
          status: TEXTS[state],
          score: given,
          passed: verdict,
          model: model === undefined ? models[index] ?? "" : TEXTS[model],
        })),
        items: [],
      };
    });
    experiment.told = packed.items.map((item) => readItem(item, experiment));
    const known = new Map(experiment.told.map((item) => [item.id, item]));
    const add = (run, id, kind, slot, status) => {
      const outcome = status === "not_audited" ? "not-run" : "passed";
      const item = known.get(id) ?? { id, kind, run, slot, tier: run.tier, before: status, status, outcome,
        findings: [], actions: [], left: 0, remedy: "", waiver: "", told: false };
      item.run = run;
      run.items.push(item);
      experiment.items.push(item);
    };
    for (const run of experiment.runs) {
      add(run, run.id, "run", 0, run.status);
      run.judges.forEach((judge, index) =>
        add(run, `${run.id}/judge_${String(index + 1).padStart(2, "0")}`, "judge_slot", index + 1, judge.status));
    }
    const held = new Set(experiment.items);
    experiment.items.push(...experiment.told.filter((item) => !held.has(item)));
    return experiment;
  }

  // The values that an item has in each facet

  const VALUES = {
    status: (item) => [`${item.kind === "judge_slot" ? "slot" : item.kind}:${item.status}`],
    outcome: (item) => [item.outcome],
    tier: (item) => (item.tier ? [item.tier] : []),
    judge: (item) => (item.slot ? [String(item.slot)] : []),
    code: (item) => (item.codes ??= [...new Set(item.findings.map((found) => found.code))]),
  };

  class View {
    constructor(section, experiment, index) {
      this.section = section;
      this.experiment = experiment;
      this.prefix = index ? `${index + 1}.` : "";
      this.part = (name) => section.querySelector(`[data-part="${name}"]`);
      this.chosen = new Map(FACETS.map(([facet]) => [facet, new Set()]));
      this.search = "";
      this.limit = PAGE;
      this.chips = new Map();
      this.cells = new Map(); // run -> cell
      this.summaries = new Map(); // subtest's row -> its runs and its cell
      this.part("filter-box").open = matchMedia("(min-width: 40rem)").matches;
      this.makeFilters();
      this.makeMap();
      if (experiment.told.some((item) => item.outcome === "repaired")) {
        section.querySelector(".legend-repaired").hidden = false;
      }
    }

    // Filters

    makeFilters() {
      const form = this.part("filters");
      for (const [facet, title] of FACETS) {
        const found = new Map();
        for (const item of this.experiment.items) {
          for (const value of VALUES[facet](item)) found.set(value, (found.get(value) ?? 0) + 1);
        }
        if (!found.size) continue;
        const chips = make("div", { class: "chips" });
        const ofFacet = new Map();
        for (const value of this.ordered(facet, found)) {
          const input = make("input", { type: "checkbox", name: facet, value });
          const count = make("span", { class: "n" });
          const chip = make("label", { class: "chip" }, input, this.labelOf(facet, value), count);
          input.addEventListener("change", () => {
            this.chosen.get(facet)[input.checked ? "add" : "delete"](value);
            this.filtered();
          });
          ofFacet.set(value, { chip, input, count });
          chips.append(chip);
        }
        this.chips.set(facet, ofFacet);
        form.append(make("fieldset", {}, make("legend", {}, title), chips));
      }
      this.searchBox = make("input", {
        type: "search", class: "search", placeholder: "such as T5/13", spellcheck: "false",
        "aria-label": "Part of an item's id",
      });
      this.searchBox.addEventListener("input", () => {
        this.search = this.searchBox.value.trim();
        this.filtered();
      });
      const reset = make("button", { type: "button" }, "Clear all filters");
      reset.addEventListener("click", () => {
        this.chosen.forEach((values) => values.clear());
        this.search = "";
        this.filtered();
      });
      form.addEventListener("submit", (event) => event.preventDefault());
      const search = make("div", { class: "chips" }, this.searchBox, reset);
      form.append(make("fieldset", {}, make("legend", {}, "Id"), search));
    }

    ordered(facet, found) {
      const values = [...found.keys()];
      if (facet === "code") return values.sort((one, other) => found.get(other) - found.get(one));
      if (facet === "judge") return values.sort((one, other) => one - other);
      const order = facet === "outcome" ? Object.keys(DATA.words.outcome) : [
        ...Object.keys(DATA.words.run).map((status) => `run:${status}`),
        ...Object.keys(DATA.words.judge_slot).map((status) => `slot:${status}`),
      ];
      const place = (value) => (order.indexOf(value) + order.length + 1) % (order.length + 1);
      return facet === "tier" ? values : values.sort((one, other) => place(one) - place(other));
    }

    labelOf(facet, value) {
      if (facet === "outcome") return Object.hasOwn(DATA.words.outcome, value) ? DATA.words.outcome[value] : value;
      if (facet === "judge") return `${value} · ${this.experiment.models[value - 1] ?? ""}`;
      if (facet !== "status") return value;
      const [kind, status] = value.split(/:(.*)/s);
      return make("span", {}, swatch(kind === "slot" ? "judge_slot" : kind, status), ` ${kind} ${spoken(status)}`);
    }

    get filtering() {
      return this.search !== "" || [...this.chosen.values()].some((values) => values.size);
    }

    apply() {
      // An item that misses one facet still counts for the values of that facet: what a click would add.
      const facets = [...this.chips].map(([facet, chips]) => [facet, this.chosen.get(facet), chips]);
      const counts = new Map(facets.map(([facet]) => [facet, new Map()]));
      const wanted = this.search.toLowerCase();
      this.matching = new Set();
      for (const item of this.experiment.items) {
        if (wanted && !item.id.toLowerCase().includes(wanted)) continue;
        let missed = null;
        let misses = 0;
        for (const [facet, chosen] of facets) {
          if (chosen.size && !VALUES[facet](item).some((value) => chosen.has(value))) {
            missed = facet;
            misses += 1;
          }
        }
        if (misses > 1) continue;
        if (!misses) this.matching.add(item);
        for (const [facet] of facets) {
          if (misses && facet !== missed) continue;
          const ofFacet = counts.get(facet);
          for (const value of VALUES[facet](item)) ofFacet.set(value, (ofFacet.get(value) ?? 0) + 1);
        }
      }
      for (const [facet, chosen, chips] of facets) {
        for (const [value, { chip, input, count }] of chips) {
          const found = counts.get(facet).get(value) ?? 0;
          count.textContent = number(found);
          input.checked = chosen.has(value);
          chip.classList.toggle("on", input.checked);
          chip.classList.toggle("none", !found);
        }
      }
      if (this.searchBox.value.trim() !== this.search) this.searchBox.value = this.search;
      this.listed = this.filtering
        ? [...this.experiment.told.filter((item) => this.matching.has(item)),
           ...[...this.matching].filter((item) => !item.told)]
        : this.experiment.told;
      this.limit = PAGE;
      this.dim();
      this.makeList();
      this.tell();
    }

    filtered() {
      this.apply();
      writeFragment();
    }

    tell() {
      const all = this.experiment.items.length;
      let text;
      if (this.filtering) {
        const slots = [...this.matching].filter((item) => item.slot).length;
        const match = this.matching.size === 1 ? "matches" : "match";
        text = `${plural(this.matching.size, "item")} of ${number(all)} ${match}: ` +
          `${plural(slots, "judge slot")}, ${plural(this.matching.size - slots, "other")}.`;
      } else {
        const bad = this.listed.filter((item) => !["passed", "repaired", "waived"].includes(item.outcome)).length;
        const unseen = this.experiment.items.filter((item) => item.status === "not_audited").length;
        text = `${plural(all, "item")}, no filter. ${number(this.listed.length)} to tell of, ${number(bad)} not sound` +
          `${unseen ? `, ${number(unseen)} not audited` : ""}.`;
      }
      this.part("result").textContent = text;
    }

    // The map

    makeMap() {
      const map = this.part("map");
      const tiers = new Map();
      for (const run of this.experiment.runs) {
        if (!tiers.has(run.tier)) tiers.set(run.tier, new Map());
        const subtests = tiers.get(run.tier);
        if (!subtests.has(run.subtest)) subtests.set(run.subtest, []);
        subtests.get(run.subtest).push(run);
      }
      const folded = this.experiment.runs.length > FOLDED;
      if (folded) {
        document.getElementById(map.getAttribute("aria-describedby")).textContent =
          "A row is a subtest, its bar its runs by status; letters count the runs that are not completed, “slots” " +
          "the judge slots that are not complete. Arrow keys move, Page Up and Page Down change the tier, Enter opens " +
          "a subtest, and in it a run.";
      }
      this.rows = [];
      for (const [tier, subtests] of tiers) {
        const runs = [...subtests.values()].flat();
        const group = make("div", { class: "tier", role: "rowgroup", "aria-label": tier || "no tier" },
          make("div", { role: "row", class: "tier-name" },
            make("span", { role: "rowheader" }, `${tier} `, make("span", { class: "counts" }, countsOf(runs)))));
        for (const [subtest, held] of subtests) {
          const name = `${tier}/${subtest}`;
          const row = make("div", { class: "subtest", role: "row" },
            make("span", { class: "subtest-name", role: "rowheader", title: name }, name));
          const entry = { row, tier, held, cells: [] };
          if (folded) {
            const cell = make("div", { class: "summary", role: "gridcell", tabindex: "-1", "aria-expanded": "false" });
            entry.summary = cell;
            entry.cells.push(cell);
            row.append(cell);
          } else {
            this.addRuns(entry);
          }
          this.rows.push(entry);
          group.append(row);
        }
        map.append(group);
      }
      if (this.rows.length) this.rows[0].cells[0].tabIndex = 0;
      this.active = this.rows[0]?.cells[0];
      map.addEventListener("click", (event) => this.press(event.target.closest('[role="gridcell"]')));
      map.addEventListener("keydown", (event) => this.key(event));
      map.addEventListener("mouseover", (event) => {
        const cell = event.target.closest('[role="gridcell"]');
        if (cell && !cell.title) cell.title = cell.getAttribute("aria-label");
      });
    }

    addRuns(entry) {
      for (const run of entry.held) {
        const repaired = run.items.some((item) => item.outcome === "repaired");
        const box = make("span", { class: `box ${styleOf("run", run.status)}${repaired ? " repaired" : ""}` },
          letterOf("run", run.status));
        const marks = run.judges.map((judge) =>
          make("span", { class: `mark ${styleOf("judge_slot", judge.status)}${isFallback(judge) ? " fallback" : ""}` }));
        const label = describe(run, repaired);
        const cell = make("div", { class: "cell", role: "gridcell", tabindex: "-1", "aria-label": label },
          box, make("span", { class: "marks" }, marks));
        this.cells.set(run, cell);
        cell.run = run;
        entry.cells.push(cell);
        entry.row.append(cell);
      }
    }

    toggle(entry) {
      const open = entry.summary.getAttribute("aria-expanded") === "true";
      entry.summary.setAttribute("aria-expanded", String(!open));
      if (open) {
        for (const cell of entry.cells.splice(1)) {
          this.cells.delete(cell.run);
          cell.remove();
        }
      } else {
        this.addRuns(entry);
        this.dim();
      }
    }

    reveal(run) {
      const entry = this.rows.find((row) => row.held.includes(run));
      if (entry?.summary?.getAttribute("aria-expanded") === "false") this.toggle(entry);
      return this.cells.get(run);
    }

    dim() {
      const shown = (run) => !this.filtering || run.items.some((item) => this.matching.has(item));
      for (const [run, cell] of this.cells) cell.classList.toggle("dim", !shown(run));
      for (const entry of this.rows) {
        if (!entry.summary) continue;
        const slots = entry.held.flatMap((run) => run.judges).filter((judge) => judge.status !== "complete").length;
        const match = this.filtering ? entry.held.filter(shown).length : 0;
        const label = `${entry.tier}/${entry.held[0].subtest}: ${countsOf(entry.held)}, ` +
          `${plural(slots, "judge slot")} not complete${this.filtering ? `, ${number(match)} match` : ""}`;
        const bar = make("span", { class: "bar", "aria-hidden": "true" });
        for (const [status, count] of tally(entry.held)) {
          const part = make("span", { class: `part ${styleOf("run", status)}` });
          part.style.flexGrow = count;
          bar.append(part);
        }
        const bad = tally(entry.held).filter(([status]) => status !== "completed")
          .map(([status, count]) => `${letterOf("run", status)}\u00a0${number(count)}`);
        if (slots) bad.push(plural(slots, "slot"));
        const tell = this.filtering ? `${number(match)} of ${number(entry.held.length)} match` : bad.join(", ");
        entry.summary.replaceChildren(bar, make("span", { class: "tell" }, tell || `all ${number(entry.held.length)}`));
        entry.summary.setAttribute("aria-label", label);
        entry.summary.removeAttribute("title");
        entry.summary.classList.toggle("dim", this.filtering && !match);
      }
    }

    press(cell) {
      if (!cell) return;
      this.focus(cell);
      if (cell.run) {
        openPanel(this, cell.run.items[0], cell);
      } else {
        this.toggle(this.rows.find((entry) => entry.summary === cell));
      }
    }

    focus(cell) {
      if (this.active) this.active.tabIndex = -1;
      this.active = cell;
      cell.tabIndex = 0;
      cell.focus();
      cell.scrollIntoView({ block: "nearest" });
    }

    key(event) {
      const cell = event.target.closest('[role="gridcell"]');
      if (!cell || event.altKey || event.metaKey) return;
      const row = this.rows.findIndex((entry) => entry.cells.includes(cell));
      const column = this.rows[row].cells.indexOf(cell);
      const at = (place, wanted) => {
        const entry = this.rows[Math.max(0, Math.min(place, this.rows.length - 1))];
        return entry.cells[Math.max(0, Math.min(wanted, entry.cells.length - 1))];
      };
      const tierFrom = (step) => {
        let place = row + step;
        while (this.rows[place] && this.rows[place].tier === this.rows[row].tier) place += step;
        if (!this.rows[place]) return at(step < 0 ? 0 : this.rows.length - 1, column);
        if (step < 0) place = this.rows.findIndex((entry) => entry.tier === this.rows[place].tier);
        return at(place, column);
      };
      const moves = {
        ArrowRight: () => at(row, column + 1),
        ArrowLeft: () => at(row, column - 1),
        ArrowDown: () => at(row + 1, column),
        ArrowUp: () => at(row - 1, column),
        Home: () => (event.ctrlKey ? at(0, 0) : at(row, 0)),
        End: () => (event.ctrlKey ? at(this.rows.length, Infinity) : at(row, Infinity)),
        PageDown: () => tierFrom(1),
        PageUp: () => tierFrom(-1),
      };
      if (Object.hasOwn(moves, event.key)) {
        this.focus(moves[event.key]());
      } else if (event.key === "Enter" || event.key === " ") {
        this.press(cell);
      } else {
        return;
      }
      event.preventDefault();
    }

    // The list

    makeList() {
      const list = this.part("list");
      const shown = this.listed.slice(0, this.limit);
      if (!shown.length) {
        const text = this.filtering ? "No item matches." : "Nothing was found, and nothing was done.";
        list.replaceChildren(make("p", {}, text));
        return;
      }
      const body = make("tbody", {}, shown.map((item) => make("tr", {},
        make("td", {}, this.opener(item)),
        make("td", {}, swatch(item.kind, item.status), "\u00a0", statusText(item)),
        make("td", {}, foundList(item)),
      )));
      const heading = this.section.querySelector('[id^="items-"]');
      const table = make("table", { class: "items", "aria-labelledby": heading.id },
        make("thead", {}, make("tr", {}, ["Item", "Status", "What was found, and what was done"].map(
          (title) => make("th", { scope: "col" }, title)))),
        body);
      const rest = this.listed.length - shown.length;
      const more = make("p", { class: "more" });
      if (rest) {
        const show = (label, limit) => {
          const button = make("button", { type: "button" }, label);
          button.addEventListener("click", () => {
            const first = this.limit;
            this.limit = limit;
            this.makeList();
            list.querySelectorAll("tbody tr")[first]?.querySelector("button")?.focus();
          });
          return button;
        };
        more.append(make("span", {}, `${number(rest)} more, not shown.`));
        if (rest > PAGE) more.append(show(`Show ${PAGE} more`, this.limit + PAGE));
        more.append(show("Show all", Infinity));
      }
      const cut = this.experiment.cut
        ? make("p", { class: "warn" }, `Of the last ${plural(this.experiment.cut, "item")} there was no room for more ` +
          "than the codes; the JSON report has their texts.")
        : null;
      list.replaceChildren(...[table, rest ? more : null, cut].filter(Boolean));
    }

    opener(item) {
      const button = make("button", { type: "button", class: "open" }, item.id);
      button.addEventListener("click", () => openPanel(this, item, button));
      return button;
    }
  }

  function tally(runs) {
    const counts = new Map();
    for (const run of runs) counts.set(run.status, (counts.get(run.status) ?? 0) + 1);
    const order = Object.keys(DATA.words.run);
    return [...counts].sort((one, other) => order.indexOf(one[0]) - order.indexOf(other[0]));
  }

  function countsOf(runs) {
    const counts = tally(runs).map(([status, count]) => `${number(count)} ${spoken(status)}`);
    return `${plural(runs.length, "run")}: ${counts.join(", ")}`;
  }

  function describe(run, repaired) {
    const judges = run.judges.map((judge) => spoken(judge.status) + (isFallback(judge) ? " (fallback)" : ""));
    const all = judges.every((word) => word === judges[0]) && judges.length > 1;
    return [
      `${run.id}: ${spoken(run.status)}`,
      repaired ? ", repaired" : "",
      run.score === null ? "" : `, score ${scoreOf(run)}`,
      judges.length ? `; judges ${all ? `all ${judges[0]}` : judges.join(", ")}` : "",
    ].join("");
  }

  function statusText(item) {
    const words = Object.hasOwn(DATA.words.outcome, item.outcome) ? DATA.words.outcome[item.outcome] : item.outcome;
    const changed = item.before && item.before !== item.status ? `${spoken(item.before)} → ` : "";
    const outcome = item.told || item.outcome !== "passed" ? `, ${words}` : "";
    return `${changed}${spoken(item.status) || "no status"}${outcome}`;
  }

  function placeOf(found, name) {
    return [found[name], found.pointer].filter(Boolean).join(" ");
  }

  function closing(item) {
    return [["waived", item.waiver], ["repair:", item.remedy]].filter(([, text]) => text);
  }

  function foundList(item) {
    const lines = [
      ...item.findings.map((found) => make("li", {}, make("code", {}, found.code), found.error ? "" : " (warning)",
        found.message ? `: ${[placeOf(found, "short"), found.message].filter(Boolean).join(": ")}` : "")),
      ...item.actions.map((action) => make("li", {}, action)),
      ...closing(item).map(([name, text]) => make("li", {}, `${name} ${text}`)),
    ];
    if (item.left) lines.push(make("li", {}, `${number(item.left)} more in the JSON report`));
    return lines.length ? make("ul", {}, lines) : make("span", { class: "none-told" }, "nothing");
  }

  // One run, or another item, in full

  const panel = document.querySelector('[data-part="panel"]');
  let opened = null; // {view, item, from}

  function orderOf(view) {
    const runs = new Set(view.listed.map((item) => item.run ?? item));
    return [...runs].sort((one, other) => (one.place ?? Infinity) - (other.place ?? Infinity));
  }

  function openPanel(view, item, from, keepFocus = false) {
    opened?.view.cells.get(opened.item.run)?.classList.remove("current");
    opened = { view, item, from: from ?? opened?.from };
    view.cells.get(item.run)?.classList.add("current");
    const order = orderOf(view);
    const place = order.indexOf(item.run ?? item);
    const step = (label, by) => {
      const next = place < 0 ? (by > 0 ? order[0] : undefined) : order[place + by];
      const button = make("button", { type: "button", disabled: !next, "data-step": by }, label);
      button.addEventListener("click", () => {
        const target = next.items ? next.items[0] : next;
        const cell = target.run ? view.reveal(target.run) : null;
        cell?.scrollIntoView({ block: "nearest" });
        openPanel(view, target, cell, true);
        const again = panel.querySelector(`[data-step="${by}"]`);
        (again.disabled ? panel.querySelector("h2") : again).focus();
      });
      return button;
    };
    const close = make("button", { type: "button" }, "Close (Esc)");
    close.addEventListener("click", closePanel);
    const run = item.run;
    const about = run ? run.items : [item];
    const telling = about.filter((one) => one.findings.length || one.actions.length || !run);
    panel.replaceChildren(
      make("div", { class: "panel-top" },
        make("h2", { id: "panel-title", tabindex: "-1" },
          swatch(run ? "run" : item.kind, (run ?? item).status), " ", make("span", { class: "id" }, (run ?? item).id)),
        make("div", { class: "buttons" }, step("← Previous", -1), step("Next →", 1),
          make("span", { class: "quiet" },
            place < 0 ? "not in the list" : `${number(place + 1)} of ${number(order.length)} in the list`),
          close)),
      ...(run ? runFacts(run) : []),
      ...telling.flatMap((one) => itemFacts(one, one === item)),
      telling.length ? "" : make("p", {}, about.every((one) => one.outcome === "passed")
        ? "Nothing was found, and nothing was done." : "This session did not look at it."),
      make("h3", {}, "Look at it again"),
      make("code", { class: "command" },
        `${view.experiment.command} ${shellQuoted(`--scylla-select=${(run ?? item).id}`)}`),
    );
    if (!panel.open) panel.show();
    document.documentElement.classList.add("with-panel");
    if (from) from.scrollIntoView({ block: "nearest" }); // the page is narrower now
    panel.scrollTop = 0;
    if (!keepFocus) panel.querySelector("h2").focus({ preventScroll: true });
    const aim = panel.querySelector(".aim");
    if (aim && item.slot) aim.scrollIntoView({ block: "nearest" });
    writeFragment();
  }

  function runFacts(run) {
    const words = wordsOf("run", run.status);
    const verdict = run.passed === null || !run.scored ? "" : run.passed ? ", passed" : ", not passed";
    const cost = run.cost === null ? "unknown" : `${run.cost.toFixed(4)} USD`;
    const facts = [
      make("p", {}, make("b", {}, spoken(run.status)), words ? `: ${words[1]}.` : ""),
      make("p", {}, `Score ${scoreOf(run)}${verdict}; cost ${cost}.`),
    ];
    if (run.judges.length) {
      const cells = (judge, index) => [
        make("th", { scope: "row" }, String(index + 1)),
        make("td", {}, judge.model),
        make("td", {}, swatch("judge_slot", judge.status), " ", spoken(judge.status)),
        make("td", { class: "number" }, score(judge.score)),
        make("td", {}, verdictOf(judge)),
      ];
      const table = make("table", {},
        make("caption", {}, "Judges"),
        make("thead", {}, make("tr", {}, ["Slot", "Model", "Status", "Score", "Verdict"].map((title) =>
          make("th", { scope: "col", class: title === "Score" ? "number" : null }, title)))),
        make("tbody", {}, run.judges.map((judge, index) => make("tr", {}, ...cells(judge, index)))));
      const region = { class: "scroll", role: "region", "aria-label": "Judges of the run", tabindex: "0" };
      facts.push(make("div", region, table));
    }
    return facts;
  }

  function itemFacts(item, aim) {
    const title = item.kind === "judge_slot" ? `Judge slot ${item.slot}` : item.kind === "run" ? "The run" : item.id;
    const status = make("span", { class: "quiet" }, statusText(item));
    const blocks = [make("h3", { class: aim ? "aim" : null }, title, ": ", status)];
    for (const found of item.findings) {
      const [meaning, cause, remedy] = Object.hasOwn(DATA.codes, found.code) ? DATA.codes[found.code] : ["", "", ""];
      blocks.push(make("div", { class: `found ${found.error ? "error" : "warning"}` },
        make("p", {}, make("code", {}, found.code), found.error ? "" : " (warning)"),
        found.message ? make("p", {}, found.message) : make("p", {}, "The JSON report has what was found."),
        placeOf(found, "file") ? make("p", {}, make("code", {}, placeOf(found, "file"))) : "",
        meaning
          ? make("p", { class: "quiet" }, `${meaning} Usually: ${cause} `, make("span", { class: "remedy" }, remedy))
          : ""));
    }
    if (item.actions.length) {
      blocks.push(make("ul", { "aria-label": "Repairs" }, item.actions.map((action) => make("li", {}, action))));
    }
    if (item.left) blocks.push(make("p", { class: "quiet" }, `${number(item.left)} more in the JSON report.`));
    blocks.push(...closing(item).map(([name, text]) => make("p", {}, make("b", {}, name), ` ${text}`)));
    return blocks;
  }

  function closePanel() {
    if (!opened) return;
    const { view, item, from } = opened;
    opened = null;
    panel.close();
    document.documentElement.classList.remove("with-panel");
    const cell = view.cells.get(item.run);
    cell?.classList.remove("current");
    const back = from?.isConnected ? from : cell;
    if (back && back === view.cells.get(back.run)) view.focus(back);
    else back?.focus();
    writeFragment();
  }

  // The fragment: what is chosen and what is open, so that an address can be passed on

  let views = [];

  function writeFragment() {
    const written = new URLSearchParams();
    for (const view of views) {
      for (const [facet, values] of view.chosen) {
        for (const value of values) written.append(view.prefix + facet, value);
      }
      if (view.search) written.set(`${view.prefix}id`, view.search);
    }
    if (opened) written.set(`${opened.view.prefix}item`, opened.item.id);
    const text = written.toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
    if (text !== location.hash.slice(1)) {
      history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    }
  }

  function readFragment() {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) return; // a part of the page
    const read = new URLSearchParams(text);
    let open = null;
    for (const view of views) {
      for (const [facet, values] of view.chosen) {
        values.clear();
        const chips = view.chips.get(facet);
        for (const value of read.getAll(view.prefix + facet)) {
          if (chips?.has(value)) values.add(value);
        }
      }
      view.search = read.get(`${view.prefix}id`) ?? "";
      view.apply();
      const wanted = read.get(`${view.prefix}item`);
      const item = wanted === null ? null : view.experiment.items.find((one) => one.id === wanted);
      if (item) open = { view, item };
    }
    if (open) {
      const cell = open.item.run ? open.view.reveal(open.item.run) : null;
      cell?.scrollIntoView({ block: "center" });
      openPanel(open.view, open.item, cell);
    } else {
      closePanel();
    }
  }

  document.documentElement.classList.add("js");
  views = [...document.querySelectorAll("[data-experiment]")].map((section) => {
    const index = Number(section.dataset.experiment);
    return new View(section, readExperiment(DATA.experiments[index]), index);
  });
  readFragment();
  for (const view of views) if (!view.matching) view.apply();
  addEventListener("hashchange", readFragment);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && opened) closePanel();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-of]");
    const link = event.target.closest('a[href^="#"]');
    if (button) {
      const view = views[Number(button.dataset.of)];
      if (button.dataset.code !== undefined) {
        view.chosen.forEach((values) => values.clear());
        view.search = "";
        if (view.chips.get("code")?.has(button.dataset.code)) view.chosen.get("code").add(button.dataset.code);
        view.filtered();
        const heading = view.section.querySelector('[id^="map-"]');
        heading.scrollIntoView();
        heading.focus({ preventScroll: true });
      } else {
        const item = view.experiment.items.find((one) => one.id === button.dataset.open);
        if (item) openPanel(view, item, button);
      }
    } else if (link) {
      // Not by the fragment, which holds the filters.
      const target = document.getElementById(link.getAttribute("href").slice(1));
      if (target) {
        event.preventDefault();
        target.scrollIntoView();
        target.focus({ preventScroll: true });
      }
    }
  });
  addEventListener("beforeprint", () => {
    for (const view of views) {
      view.unprinted = view.limit;
      view.limit = Math.max(view.limit, PRINTED);
      view.makeList();
    }
  });
  addEventListener("afterprint", () => {
    for (const view of views) {
      view.limit = view.unprinted;
      view.makeList();
    }
  });
  document.documentElement.dataset.ready = Math.round(performance.now());
})();
