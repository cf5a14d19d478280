// Elements from data. Text only ever becomes a text node, so nothing that a job carries can become markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.setAttribute("class", [value].flat().filter(Boolean).join(" "));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

// Make the children of `target` like those of `wanted`, changing only what differs: focus, selection and scroll
// positions survive a refresh. Elements with the same `data-key` are the same element, wherever they moved.
export function patchChildren(target, wanted) {
  const keyed = new Map();
  for (const child of target.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  const staying = new Set([...wanted.children].map((child) => child.dataset.key));
  let current = target.firstChild;
  for (const next of [...wanted.childNodes]) {
    // What goes is taken out first: moving the others past it would take the focus away from them.
    while (current?.dataset?.key && !staying.has(current.dataset.key)) {
      const gone = current;
      current = current.nextSibling;
      gone.remove();
    }
    const key = next.nodeType === Node.ELEMENT_NODE ? next.dataset.key : undefined;
    let same = key === undefined ? current : keyed.get(key);
    if (same && !alike(same, next)) same = undefined;
    if (same === undefined || same === null) {
      target.insertBefore(next, current);
      continue;
    }
    if (same === current) current = current.nextSibling;
    else target.insertBefore(same, current);
    patch(same, next);
  }
  while (current) {
    const gone = current;
    current = current.nextSibling;
    gone.remove();
  }
}

function alike(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false;
  return one.nodeType !== Node.ELEMENT_NODE || one.dataset.key === other.dataset.key;
}

function patch(element, wanted) {
  if (element.nodeType !== Node.ELEMENT_NODE) {
    if (element.nodeValue !== wanted.nodeValue) element.nodeValue = wanted.nodeValue;
    return;
  }
  for (const { name } of [...element.attributes]) {
    // What the person opened stays open.
    if (!wanted.hasAttribute(name) && !(name === "open" && element.nodeName === "DETAILS")) element.removeAttribute(name);
  }
  for (const { name, value } of [...wanted.attributes]) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  patchChildren(element, wanted);
  if (element.nodeName === "INPUT" && element.type === "checkbox") {
    element.checked = wanted.hasAttribute("checked");
    element.indeterminate = wanted.hasAttribute("data-some");
  } else if (element.nodeName === "INPUT" && element !== document.activeElement) {
    element.value = wanted.getAttribute("value") ?? "";
  } else if (element.nodeName === "SELECT" && element !== document.activeElement) {
    element.value = wanted.value;
  }
}
