// @ts-check
// The view "Verify": a file is chosen, dropped or pasted, examined by the server, and not kept.
import * as api from "./api.js"
import { announce, el, setText, uniqueId } from "./dom.js"
import { errorWords, size } from "./words.js"

const VERDICTS = /** @type {Record<string, string>} */ ({
  made_here: "Made here",
  declares_ai: "Declares that a model made it",
  tampered: "Changed after it was signed",
  unknown: "Unknown",
})

export class Verify {
  slug = "verify"
  title = "Verify"
  // What is dropped anywhere in the view goes in here; no result of earlier work is offered to it.
  zones = [{ types: /** @type {string[]} */ ([]), putFrom: (/** @type {DataTransfer | null} */ data) => this.putFrom(data) }]

  constructor() {
    const id = uniqueId("file")
    this.asked = 0
    this.heading = el("h1", { tabIndex: -1 }, this.title)
    this.problem = el("p.error.whole", { role: "alert", hidden: true })
    this.state = el("p.muted", { role: "status" })
    this.answer = el("div.single.verdict")
    this.picker = el("input.hidden", { id, type: "file", accept: "image/*,video/*,audio/*", onchange: () => this.putFrom(this.picker) })
    this.zone = el("div.drop", {}, this.picker,
      el("div.prompt", {}, el("p.muted", { "aria-hidden": "true" }, "Drop or paste a picture or a video"),
        el("label.choose", { htmlFor: id, "aria-hidden": "true" }, "Choose a file"))) // prettier-ignore
    this.element = el("section.view", { hidden: true, "aria-label": this.title },
      el("header.lead", {}, this.heading, el("p.muted", {}, "Whether a model made a picture or a video, as far as its marks tell. The file is examined and not kept.")),
      el("div.field.single", {}, el("label", { htmlFor: id }, "File"), this.zone), this.problem, this.state, this.answer) // prettier-ignore
    this.zone.addEventListener("drop", (/** @type {DragEvent} */ event) => {
      event.preventDefault()
      event.stopPropagation()
      this.putFrom(event.dataTransfer)
    })
  }

  /** Takes what was chosen, dropped or pasted. @param {{files: FileList | null} | null} data */
  putFrom(data) {
    const files = [...(data?.files ?? [])]
    if (files.length === 1) return this.#examine(files[0])
    if (files.length > 1) this.#refuse(`One file at a time; these are ${files.length}.`)
  }

  /** @param {File} file */
  async #examine(file) {
    const turn = ++this.asked
    this.problem.hidden = true
    this.answer.replaceChildren()
    setText(this.state, `${file.name} (${size(file.size)}) is examined.`)
    try {
      const verdict = await api.verify(file)
      if (turn === this.asked) this.#show(file, verdict)
    } catch (error) {
      if (turn === this.asked) this.#refuse(errorWords(/** @type {any} */ (error)))
    }
    this.picker.value = ""
  }

  /** @param {File} file @param {any} verdict */
  #show(file, verdict) {
    const title = VERDICTS[verdict.verdict] ?? verdict.verdict
    setText(this.state, "")
    this.answer.replaceChildren(
      el("article.job", { "aria-label": file.name, dataset: { verdict: verdict.verdict } },
        el("header", {}, el("h3", {}, file.name), el("span.state", {}, title)),
        el("p.answer", {}, verdict.meaning),
        el("dl.facts.layers", {}, ...layers(verdict).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])))) // prettier-ignore
    announce(`${file.name}: ${title}. ${verdict.meaning}`)
  }

  /** @param {string} message */
  #refuse(message) {
    setText(this.state, "")
    this.problem.hidden = false
    setText(this.problem, message)
  }
}

/** What each layer says. @param {any} verdict @returns {[string, string][]} */
function layers({ c2pa, watermark, log }) {
  return [
    ["Signed statement", statement(c2pa)],
    ["Invisible mark", mark(watermark)],
    ["Log of this server", log.exact ? "these very bytes were made here" : log.by_mark ? "pixels with this mark were made here" : "nothing that is still kept"],
  ]
}

/** @param {any} told */
function statement(told) {
  if (!told.present) return told.note ?? "none"
  const problems = told.failures.map((/** @type {any} */ { meaning }) => meaning)
  return [`${told.state.toLowerCase()}, signed by ${told.issuer}`, ...problems].join("; ")
}

/** @param {any} told */
function mark(told) {
  if (told.note) return told.note
  const score = `score ${told.score}, ${told.threshold} needed`
  return told.found ? `found, id ${told.id ?? "not readable"}; ${score}` : `not found; ${score}`
}
