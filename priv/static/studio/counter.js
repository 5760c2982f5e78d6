// @ts-check
// Counts a prompt while it is typed: what the model would not read is said before it is asked.
import * as api from "./api.js"

const PAUSE_MS = 400 // of typing, before the server is asked
const PROMPTS = ["prompt", "negative_prompt"]

export class Counter {
  /** @param {() => {task: string, model?: string}} about what would run */
  constructor(about) {
    this.about = about
    /** @type {import("./field.js").Field[]} */
    this.fields = []
    this.timer = 0
    this.asked = new AbortController()
  }

  /** Counts these fields from now on, as far as they are prompts. @param {import("./field.js").Field[]} fields */
  watch(fields) {
    this.fields = fields.filter(({ name, property }) => PROMPTS.includes(name) && property.type === "string")
    for (const field of this.fields) field.onchange = () => this.#later()
    this.#later()
  }

  // Only the latest text is of interest: an answer about an earlier one never shows.
  #later() {
    clearTimeout(this.timer)
    this.asked.abort()
    this.timer = setTimeout(() => this.#ask(), PAUSE_MS)
  }

  async #ask() {
    const texts = this.fields.flatMap((field) => {
      const { value } = field.read()
      return typeof value === "string" ? [[field.name, value]] : []
    })
    for (const field of this.fields) if (!texts.some(([name]) => name === field.name)) field.setCount(null)
    if (texts.length === 0) return
    this.asked = new AbortController()
    const { signal } = this.asked
    // While the model is not ready or the server away, nothing is counted, and nothing is said of it: a job would be told.
    const counts = await api.count({ ...this.about(), params: Object.fromEntries(texts) }, signal).catch(() => ({}))
    if (signal.aborted) return
    for (const field of this.fields) field.setCount(counts[field.name] ?? null)
  }
}
