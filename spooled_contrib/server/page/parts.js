// What several views are made of.

import { h, svg } from "./dom.js";

// Columns: {name, cell(row), align?, wide?}. On a narrow screen each row becomes a card, labelled by column;
// the roles keep it a table for those who hear it.
export function table({ label, kind, columns, rows, keyOf, hrefOf, empty }) {
  if (rows.length === 0) return h("div", { class: "empty" }, empty);
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { role: "table", "aria-label": label, class: [hrefOf && "linked", kind] },
      h(
        "thead",
        { role: "rowgroup" },
        h("tr", { role: "row" }, columns.map((one) => h("th", { role: "columnheader", scope: "col", class: one.align }, one.head ?? one.name))),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        rows.map((row) =>
          h(
            "tr",
            { role: "row", "data-key": keyOf(row), "data-href": hrefOf?.(row), tabindex: hrefOf ? "0" : undefined },
            columns.map((one) =>
              h("td", { role: "cell", class: [one.align, one.kind], "data-name": one.name }, one.cell(row)),
            ),
          ),
        ),
      ),
    ),
  );
}

export function heading(title, detail, ...controls) {
  return h(
    "div",
    { class: "heading" },
    h("h1", { tabindex: "-1" }, title, detail && h("small", {}, detail)),
    controls.length > 0 && h("div", { class: "buttons" }, controls),
  );
}

export function button(text, action, { key, kind, disabled, label, ...data } = {}) {
  const given = Object.fromEntries(Object.entries(data).map(([name, value]) => [`data-${name}`, value]));
  return h(
    "button",
    { type: "button", class: kind, "data-action": action, "data-key": key ?? action, disabled, "aria-label": label, ...given },
    text,
  );
}

export function empty(text, command) {
  return [h("p", {}, text), command && h("p", {}, h("code", {}, command))];
}

export function absent(what) {
  return h(
    "div",
    { class: "empty" },
    h("p", {}, `This server has no ${what}.`),
    h("p", { class: "quiet" }, "A newer version, or Spooled itself, has them."),
  );
}

export function code(text) {
  return h("pre", { tabindex: "0" }, text);
}

// Columns of a small chart, oldest first. The line's words are for those who cannot see it.
export function spark(values, words, { width = 120, height = 24, kind } = {}) {
  const most = Math.max(1, ...values);
  const step = width / Math.max(1, values.length - 1);
  const y = (value) => (height - 2 - (value / most) * (height - 4)).toFixed(1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${y(value)}`);
  return svg(
    "svg",
    { class: ["spark", kind], viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
    svg("title", {}, words),
    svg("polygon", { points: `0,${height} ${points.join(" ")} ${width},${height}` }),
    svg("polyline", { points: points.join(" ") }),
  );
}

export function pager(route, query, page, more) {
  if (page === 0 && !more) return null;
  const link = (text, to, on) =>
    on
      ? h("a", { href: href(route, { ...query, page: to || undefined }), class: "button", "data-key": text }, text)
      : h("span", { class: "button off", "aria-disabled": "true", "data-key": text }, text);
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    link("Previous", page - 1, page > 0),
    h("span", {}, `Page ${page + 1}`),
    link("Next", page + 1, more),
  );
}

export function href(route, query = {}) {
  const entries = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `#/${route}${entries.length ? `?${new URLSearchParams(entries)}` : ""}`;
}

export function select(name, label, options, chosen) {
  return h(
    "label",
    { "data-key": name },
    h("span", {}, label),
    h(
      "select",
      { name, "data-filter": name },
      options.map(([value, text]) => h("option", { value, selected: value === (chosen ?? "") }, text)),
    ),
  );
}

export function textFilter(name, label, value, placeholder) {
  return h(
    "label",
    { "data-key": name },
    h("span", {}, label),
    h("input", { name, "data-filter": name, value: value ?? "", placeholder, type: "search", autocomplete: "off", spellcheck: "false" }),
  );
}
