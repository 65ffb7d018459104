"use strict";
(() => {
  const SIZE = 100;
  const LOOK = 2000;
  const find = (id) => document.getElementById(id);
  const view = { text: "", state: "", column: -1, down: false, page: 0 };

  const make = (name, text, attributes = {}) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const count = (number) => number.toLocaleString("en");

  // The table of all servers, made of the text that is there for those who have no scripts.
  const begin = () => {
    const kept = find("servers-text");
    if (!kept) return;
    const columns = kept.dataset.columns.split("\t");
    const lines = kept.textContent === "" ? [] : kept.textContent.split("\n");
    const stateAt = columns.indexOf("state");
    const secondsAt = columns.indexOf("seconds");
    const field = (line, place) => line.split("\t", place + 1)[place];
    let order = lines;
    let sortedBy = "";

    const sorted = () => {
      const by = `${view.column} ${view.down}`;
      if (by === sortedBy) return order;
      sortedBy = by;
      if (view.column < 0) return (order = lines);
      const keyed = lines.map((line) => [field(line, view.column), line]);
      const sign = view.down ? -1 : 1;
      const compare = new Intl.Collator("en", { numeric: true }).compare;
      keyed.sort(view.column === secondsAt
        ? (one, two) => sign * (Number(one[0] || -1) - Number(two[0] || -1))
        : (one, two) => sign * compare(one[0], two[0]));
      return (order = keyed.map((pair) => pair[1]));
    };
    const matching = () => {
      const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
      if (!words.length && !view.state) return sorted();
      return sorted().filter((line) => {
        if (view.state && field(line, stateAt) !== view.state) return false;
        const low = line.toLowerCase();
        return words.every((word) => low.includes(word));
      });
    };

    const head = make("tr");
    columns.forEach((name, place) => {
      const cell = make("th", undefined, { scope: "col" });
      const button = make("button", name, { type: "button" });
      button.addEventListener("click", () => {
        // Up, down, and as it was.
        if (view.column !== place) Object.assign(view, { column: place, down: false });
        else if (!view.down) view.down = true;
        else Object.assign(view, { column: -1, down: false });
        view.page = 0;
        show();
      });
      cell.append(button);
      head.append(cell);
    });
    const body = find("servers-rows");
    find("servers-head").replaceChildren(head);

    const show = () => {
      const found = matching();
      const pages = Math.max(1, Math.ceil(found.length / SIZE));
      view.page = Math.min(Math.max(0, view.page), pages - 1);
      const from = view.page * SIZE;
      const rows = found.slice(from, from + SIZE).map((line) => {
        const row = make("tr");
        line.split("\t").forEach((text, place) => {
          const cell = make("td", undefined, { "data-label": columns[place] });
          if (place === stateAt) {
            cell.append(make("span", undefined, { class: `dot ${text.toUpperCase()}` }), text);
          } else {
            cell.append(make("bdi", text));
          }
          if (place === secondsAt) cell.className = "n";
          if (!text) cell.className = "empty";
          row.append(cell);
        });
        return row;
      });
      body.replaceChildren(...rows);
      [...head.children].forEach((cell, place) => {
        if (place === view.column) cell.setAttribute("aria-sort", view.down ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
      const of = found.length === lines.length ? "" : ` (of ${count(lines.length)})`;
      find("servers-shown").textContent = found.length
        ? `${count(from + 1)} to ${count(from + rows.length)} of ${count(found.length)}${of}`
        : `No server matches${of}`;
      find("servers-before").disabled = view.page === 0;
      find("servers-after").disabled = view.page >= pages - 1;
    };
    const turn = (pages) => () => {
      view.page += pages;
      show();
    };
    find("servers-before").addEventListener("click", turn(-1));
    find("servers-after").addEventListener("click", turn(1));
    const text = find("servers-filter");
    const state = find("servers-state");
    text.value = view.text;
    state.value = view.state;
    const filter = () => {
      Object.assign(view, { text: text.value, state: state.value, page: 0 });
      show();
    };
    text.addEventListener("input", filter);
    state.addEventListener("change", filter);
    find("servers-table").hidden = false;
    find("servers-folded").hidden = true;
    show();
  };

  // What is folded is printed as well.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.printed:not([open])")];
    folded.forEach((each) => (each.open = true));
  });
  addEventListener("afterprint", () => folded.forEach((each) => (each.open = false)));

  // The page of a run that goes on looks for what is new, and keeps what was opened, typed and sorted.
  const exchange = (page) => {
    const next = new DOMParser().parseFromString(page, "text/html");
    const open = [...document.querySelectorAll("details[id]")].map((each) => [each.id, each.open]);
    const focus = document.activeElement && document.activeElement.id;
    const [across, down] = [scrollX, scrollY];
    document.querySelector("main").replaceWith(document.importNode(next.querySelector("main"), true));
    document.title = next.title;
    for (const [id, is] of open) if (find(id)) find(id).open = is;
    begin();
    if (focus && find(focus)) find(focus).focus({ preventScroll: true });
    scrollTo(across, down);
  };
  const follow = () => {
    const name = Math.random().toString(36).slice(2);
    let rest = 0;
    let missed = 0;
    let since = "";
    const look = async () => {
      try {
        const state = await (await fetch(`state?${name}`, { cache: "no-store", signal: AbortSignal.timeout(10000) })).json();
        missed = 0;
        const live = find("live");
        live.textContent = state.words;
        live.className = `notice ${state.ended ? "good" : ""}`;
        since = new Date().toLocaleTimeString();
        if (String(state.version) !== document.querySelector("main").dataset.version && performance.now() >= rest) {
          const before = performance.now();
          const answer = await fetch(`./?${name}`, { cache: "no-store", signal: AbortSignal.timeout(60000) });
          if (answer.ok) exchange(await answer.text());
          // A large page is fetched less often, so that whoever reads it can.
          rest = performance.now() + 5 * (performance.now() - before);
          if (document.querySelector("main").dataset.version === "end") return;
        }
      } catch {
        missed += 1;
        if (missed > 1 && find("live")) {
          find("live").className = "notice bad";
          find("live").textContent = `No answer any more${since ? ` since ${since}` : ""}: the command has ended, or`
            + " cannot be reached. This is what was known last.";
        }
      }
      setTimeout(look, document.hidden ? 5 * LOOK : LOOK);
    };
    look();
  };

  begin();
  if (document.querySelector('main[data-version]:not([data-version="end"])')) follow();
})();
