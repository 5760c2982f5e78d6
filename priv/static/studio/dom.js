// @ts-check
// Elements of the page. Text is only ever set as text: nothing here reads markup.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element: `el("p.note", { hidden: true }, "text", child)`. Functions named on… are listeners, names with a dash and those that the
 * element has no property for are attributes, everything else is set as a property.
 * @param {string} tag name and classes
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".")
  const element = document.createElement(name)
  if (classes.length) element.className = classes.join(" ")
  for (const [key, value] of Object.entries(properties)) set(element, key, value)
  element.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child || child === "")))
  return element
}

/** @param {any} element @param {string} key @param {any} value */
function set(element, key, value) {
  if (value === undefined || value === null) return
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value)
  else if (key === "dataset") Object.assign(element.dataset, value)
  else if (key.includes("-") || !(key in element)) element.setAttribute(key, value)
  else element[key] = value
}

let last = 0

/** An id that no other element has. @param {string} name */
export function uniqueId(name) {
  last += 1
  return `${name}-${last}`
}

/**
 * Sets the text of an element where it differs, so that readers of a live region are told of changes only.
 * @param {Element} element @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** Says something to those who hear the page. @param {string} text */
export function announce(text) {
  const announcer = /** @type {HTMLElement} */ (document.getElementById("announcer"))
  announcer.replaceChildren(el("span", {}, text))
}
