// @ts-check
// Pictures and videos of the server. Where a key is needed they are fetched with it, as soon as they come into sight: a `src` cannot carry one.
import { key } from "./key.js"
import { blob } from "./api.js"

/** @type {Map<string, Promise<string>>} */
const fetched = new Map()

const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue
    watcher.unobserve(target)
    local(/** @type {HTMLElement} */ (target).dataset.source ?? "").then((url) => (/** @type {HTMLImageElement} */ (target).src = url), () => {})
  }
})

/** Gives an image or video its source. @template {HTMLElement} T @param {T} element @param {string} url @returns {T} */
export function sourced(element, url) {
  if (key() === null || !url.startsWith("/")) /** @type {any} */ (element).src = url
  else {
    element.dataset.source = url
    watcher.observe(element)
  }
  return element
}

/** A URL of the bytes that needs no key. @param {string} url @returns {Promise<string>} */
export function local(url) {
  if (!fetched.has(url)) fetched.set(url, blob(url).then((bytes) => URL.createObjectURL(bytes)))
  return /** @type {Promise<string>} */ (fetched.get(url))
}

/** @param {string} id of an artifact */
export function artifactUrl(id) {
  return `/v1/artifacts/${encodeURIComponent(id)}`
}

/** What an input takes, by its name: an artifact does not tell before it is fetched. @param {string} name */
export function mediaOf(name) {
  return ["video", "image"].find((kind) => name.includes(kind)) ?? ""
}
