// Elements of the page. Text is always set as text, never as markup, and without what would turn the direction of the text behind it.

const STEERING = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

// As long as it was, so that columns stay.
export const harmless = (text) => (typeof text === "string" ? text.replace(STEERING, "\ufffd") : text);

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  set(element, properties);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(harmless));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(harmless));
  return element;
}

function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name === "class") element.className = value;
    else if (name in element && name !== "role") element[name] = name === "value" ? value : harmless(value);
    else element.setAttribute(name, harmless(value));
  }
}

const channels = new Map(); // by theme and name

// Red, green and blue of a colour of the page, as it is light or dark.
export function channelsOf(name) {
  const key = `${document.documentElement.dataset.theme} ${name}`;
  if (!channels.has(key)) {
    const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    channels.set(key, [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)));
  }
  return channels.get(key);
}

export const byId = (id) => document.getElementById(id);
