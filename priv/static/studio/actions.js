// @ts-check
// What can be done with a finished job.
import { announce, el } from "./dom.js"
import { key } from "./key.js"
import { local } from "./media.js"
import { errorWords } from "./words.js"

const EXTENSIONS = /** @type {Record<string, string>} */ ({ "image/png": "png", "video/mp4": "mp4", "text/plain": "txt" })

/**
 * @typedef {object} Studio what the parts of the page ask of the whole
 * @property {import("./connection.js").Connection} connection
 * @property {(job: any, options: {newSeed: boolean}) => void} again
 * @property {(output: any) => {label: string, use: () => void}[]} targets
 * @property {(id: string) => Promise<void>} forget
 * @property {() => void} finished something is new in the gallery
 */

/** The row of buttons. @param {import("./job.js").Job} job @param {Studio} studio @param {() => void} gone when it was deleted */
export function actions(job, studio, gone) {
  const forget = () => studio.forget(job.id).then(gone)
  return el(
    "div.actions",
    {},
    button("Again", () => studio.again(job, { newSeed: false })),
    "seed" in job.params && button("New seed", () => studio.again(job, { newSeed: true })),
    share(job),
    button("Delete", () => confirmed("Delete this result?", "It cannot be brought back.", "Delete", forget)),
  )
}

/** @param {string} text @param {() => void} onclick */
export function button(text, onclick) {
  return el("button.quiet", { type: "button", onclick }, text)
}

/** A button that opens a list of others; null without any. @param {string} title @param {{label: string, use: () => void}[]} targets */
export function menu(title, targets) {
  if (targets.length === 0) return null
  const element = el("details.menu", {}, el("summary", {}, title))
  const close = () => ((element.open = false), element.querySelector("summary").focus())
  const choose = (/** @type {() => void} */ use) => () => ((element.open = false), use())
  element.append(el("div", {}, ...targets.map(({ label, use }) => button(label, choose(use)))))
  element.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && close())
  element.addEventListener("focusout", (/** @type {FocusEvent} */ event) => {
    if (event.relatedTarget && !element.contains(event.relatedTarget)) element.open = false
  })
  return element
}

/** @param {any} output */
export function download({ url, text, artifact, name, media_type }) {
  const file = `koma-${artifact?.slice(0, 12) ?? name}.${EXTENSIONS[media_type] ?? "bin"}`
  if (url && key() === null) return el("a.plain", { href: url, download: file }, "Download")
  if (!url && text === undefined) return null
  const href = async () => (url ? local(url) : URL.createObjectURL(new Blob([text], { type: "text/plain" })))
  return el("button.plain", { type: "button", onclick: async () => el("a", { href: await href(), download: file }).click() }, "Download")
}

/** @param {{id: string}} job */
function share(job) {
  const link = new URL(`/#job/${job.id}`, location.href).href
  const shown = el("input.link", { type: "text", readOnly: true, value: link, hidden: true, "aria-label": "Link to this result" })
  const copy = button("Copy link", async () => {
    try {
      await navigator.clipboard.writeText(link)
      copy.textContent = "Link copied"
      announce("The link is copied.")
    } catch {
      // Only pages of this machine or over TLS may write to the clipboard.
      shown.hidden = false
      shown.select()
    }
  })
  return el("span.share", {}, copy, shown)
}

/**
 * Asks before something that cannot be undone.
 * @param {string} question @param {string} words @param {string} action @param {() => Promise<void>} act
 */
export function confirmed(question, words, action, act) {
  const problem = el("p.error", { role: "alert", hidden: true })
  const dialog = el(
    "dialog",
    { "aria-label": question, onclose: () => dialog.remove() },
    el("h2", {}, question),
    el("p", {}, words),
    problem,
    el("div.buttons", {}, el("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Keep it"), el("button.danger", { type: "button", onclick: run }, action)),
  )
  function run() {
    act().then(
      () => dialog.close(),
      (error) => {
        problem.hidden = false
        problem.textContent = errorWords(error)
      },
    )
  }
  document.body.append(dialog)
  dialog.showModal()
}
