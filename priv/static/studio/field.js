// @ts-check
// One field of a form: label, control, help, error. What the control is follows from the property's type and bounds.
import { el, setText, uniqueId } from "./dom.js"
import { parse, slider } from "./schema.js"
import { plural } from "./words.js"

const LONG = 200 // characters from which a text gets several lines

export class Field {
  /** @param {import("./schema.js").Property} property */
  constructor(property) {
    this.property = property
    this.name = property.name
    this.id = uniqueId(property.name)
    this.error = el("p.error", { id: `${this.id}-error`, hidden: true })
    this.help = el("p.help", { id: `${this.id}-help` }, property.help)
    this.control = this.#control()
    this.control.setAttribute("aria-describedby", `${this.error.id} ${this.help.id}`)
    if (property.required) this.control.setAttribute("aria-required", "true")
    this.count = el("p.count", { role: "status", hidden: true })
    this.onchange = () => {}
    this.slider = this.#slider()
    this.element = this.#element()
    this.control.addEventListener("input", () => (this.setError(null), this.onchange()))
    this.set(property.initial)
  }

  /** What was typed, checked; without value where the default shall do. @returns {{value?: any, error?: string}} */
  read() {
    const { type, choices } = this.property
    if (choices) return { value: choices[this.control.selectedIndex] }
    if (type === "boolean") return { value: this.control.checked }
    return parse(this.property, this.control.value)
  }

  /** Shows a value; null empties the field. @param {any} value */
  set(value) {
    const { type, choices } = this.property
    if (choices) this.control.selectedIndex = Math.max(0, choices.indexOf(value ?? this.property.initial))
    else if (type === "boolean") this.control.checked = value === true
    else if (type === "json" && value !== null) this.control.value = JSON.stringify(value)
    else this.control.value = value ?? ""
    if (this.slider) this.#moveSlider()
    this.setError(null)
    this.onchange()
  }

  /** Says how much of a prompt the model reads; a warning where that is not all. @param {{tokens: number, notice?: string} | null} count */
  setCount(count) {
    this.count.hidden = count === null
    this.count.classList.toggle("warning", count?.notice !== undefined)
    setText(this.count, count ? (count.notice ?? plural(count.tokens, "token")) : "")
  }

  /** Says what is wrong, at the field; null: nothing. @param {string | null} message */
  setError(message) {
    this.error.hidden = message === null
    setText(this.error, message ?? "")
    if (message === null) this.control.removeAttribute("aria-invalid")
    else this.control.setAttribute("aria-invalid", "true")
  }

  focus() {
    const folded = this.element.closest("details")
    if (folded) folded.open = true
    this.control.focus()
  }

  #control() {
    const { type, choices, maxLength, required } = this.property
    const common = { id: this.id, name: this.name }
    if (choices) return el("select", common, ...choices.map((choice) => el("option", {}, String(choice))))
    if (type === "boolean") return el("input", { ...common, type: "checkbox" })
    const lines = type === "json" || (type === "string" && (maxLength ?? LONG) >= LONG)
    if (lines) return el("textarea", { ...common, rows: required ? 4 : 2, spellcheck: true })
    const mode = { integer: "numeric", number: "decimal" }[/** @type {"integer"} */ (type)]
    const hint = this.property.initial === null && mode ? "random" : ""
    return el("input", { ...common, type: "text", inputMode: mode, placeholder: this.name === "seed" ? hint : "", autocomplete: "off" })
  }

  // The slider is a second hand on the same value: readers of the screen meet the number field only.
  #slider() {
    const range = slider(this.property)
    if (!range) return null
    const element = el("input", { type: "range", ...range, tabIndex: -1, "aria-hidden": "true" })
    element.addEventListener("input", () => {
      this.control.value = String(Number(Number(element.value).toFixed(6)))
      this.setError(null)
    })
    this.control.addEventListener("input", () => this.#moveSlider())
    this.control.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.#step(event, range))
    return element
  }

  // Arrow keys in the number field do what they do on a slider.
  /** @param {KeyboardEvent} event @param {{min: number, max: number, step: number}} range */
  #step(event, { min, max, step }) {
    const by = { ArrowUp: step, ArrowDown: -step }[event.key]
    if (by === undefined) return
    event.preventDefault()
    const now = Number(this.control.value === "" ? this.property.initial : this.control.value) || 0
    this.set(Number(Math.min(max, Math.max(min, now + by)).toFixed(6)))
  }

  #moveSlider() {
    const { value } = this.read()
    this.slider.value = String(value ?? this.property.initial ?? this.slider.min)
  }

  #element() {
    const { type, required } = this.property
    const label = el("label", { htmlFor: this.id }, this.property.label)
    if (type === "boolean") return el("div.field.check", {}, this.control, label, this.help, this.error)
    if (this.slider) return el("div.field.ranged", {}, label, this.control, this.slider, this.error, this.help)
    const small = type !== "string" && type !== "json"
    return el(small ? "div.field.small" : required ? "div.field.main" : "div.field", {}, label, this.control, this.error, this.count, this.help)
  }
}
