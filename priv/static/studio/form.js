// @ts-check
// The form of a task, built from the schemas that its families declare: parameters, files, choice of the model.
import { Counter } from "./counter.js"
import { el, setText } from "./dom.js"
import { dropZones } from "./drop.js"
import { Field } from "./field.js"
import { Retry } from "./retry.js"
import { properties } from "./schema.js"
import { errorWords } from "./words.js"

export class Form {
  /**
   * @param {object} options
   * @param {string} options.task
   * @param {any[]} options.families that serve the task: `{family, spec}`
   * @param {string} options.action what the button says
   * @param {import("./connection.js").Connection} options.connection
   * @param {(request: {model?: string, params: object, inputs: object}) => Promise<void>} options.submit
   */
  constructor({ task, families, action, connection, submit }) {
    this.counter = new Counter(() => ({ task, ...this.#model() }))
    this.families = families
    this.connection = connection
    this.submit = submit
    /** @type {Field[]} */
    this.fields = []
    /** @type {import("./drop.js").DropZone[]} */
    this.zones = []
    this.retry = new Retry(() => this.send())
    this.alert = el("p.error.whole", { role: "alert", hidden: true })
    this.button = el("button.primary", { type: "submit" }, action)
    this.body = el("div.fields")
    this.model = el("select", { id: `model-${families[0].family}`, onchange: () => this.#build() }, ...families.map(({ family }) => el("option", {}, family)))
    this.element = el(
      "form.panel",
      { noValidate: true, onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), this.send()) },
      families.length > 1 && el("div.field.small", {}, el("label", { htmlFor: this.model.id }, "Model"), this.model),
      this.body, this.alert, this.retry.element, this.button,
    ) // prettier-ignore
    this.#build()
  }

  get family() {
    return this.families[Math.max(0, this.model.selectedIndex)]
  }

  /** Shows what an earlier job had. @param {{model: string, params: Record<string, any>, inputs: Record<string, string>}} job */
  fill({ model, params, inputs }) {
    const index = this.families.findIndex(({ family }) => family === model)
    if (index >= 0 && index !== this.model.selectedIndex) {
      this.model.selectedIndex = index
      this.#build()
    }
    for (const field of this.fields) if (field.name in params) field.set(params[field.name])
    for (const zone of this.zones) zone.clear()
    for (const [name, artifact] of Object.entries(inputs)) this.zones.find((zone) => zone.takes(name))?.putArtifact(artifact, name)
  }

  /** Checks, waits for uploads, submits; says what is wrong where it is. */
  async send() {
    if (this.button.disabled) return
    this.#clearErrors()
    const params = this.#read()
    if (!params) return
    this.button.disabled = true
    try {
      const inputs = await this.#inputs()
      await this.submit({ ...this.#model(), params, inputs })
    } catch (error) {
      this.showError(/** @type {import("./api.js").KomaError} */ (error))
    } finally {
      this.button.disabled = false
    }
  }

  /** An error at the field it concerns, else below the form. @param {import("./api.js").KomaError} error */
  showError(error) {
    const place = this.placeOf(error)
    if (error.retryAfterMs !== undefined) this.retry.offer(errorWords(error), error.retryAfterMs)
    else if (place) this.#showAt(place, errorWords(error))
    else this.#showWhole(errorWords(error))
  }

  /** The field or drop zone that an error concerns. @param {{field?: string}} error */
  placeOf({ field = "" }) {
    const [, input] = field.match(/^inputs\.(.+)$/) ?? []
    if (input) return this.zones.find((zone) => zone.takes(input))
    return this.fields.find(({ name }) => name === field.replace(/^params\./, ""))
  }

  #model() {
    return this.families.length > 1 ? { model: this.family.family } : {}
  }

  #build() {
    const { spec } = this.family
    this.fields = properties(spec.params).map((property) => new Field(property))
    this.counter.watch(this.fields)
    this.zones = dropZones(spec.inputs, this.connection)
    const advanced = this.fields.filter(({ property }) => property.advanced && !property.required)
    const plain = this.fields.filter((field) => !advanced.includes(field))
    this.body.replaceChildren(
      ...this.zones.map(({ element }) => element),
      ...plain.map(({ element }) => element),
      ...(advanced.length ? [folded("Advanced", advanced)] : []),
    )
  }

  #read() {
    const read = this.fields.map((field) => ({ field, ...field.read() }))
    const wrong = read.filter(({ error }) => error)
    for (const { field, error } of wrong) field.setError(error ?? null)
    wrong[0]?.field.focus()
    if (wrong.length) return null
    return Object.fromEntries(read.filter(({ value }) => value !== undefined).map(({ field, value }) => [field.name, value]))
  }

  async #inputs() {
    const pairs = await Promise.all(this.zones.map((zone) => zone.artifact()))
    return Object.fromEntries(pairs.filter((pair) => pair !== null))
  }

  /** @param {{setError: (message: string) => void, focus: () => void}} place @param {string} message */
  #showAt(place, message) {
    place.setError(message)
    place.focus()
  }

  /** @param {string} message */
  #showWhole(message) {
    this.alert.hidden = false
    setText(this.alert, message)
  }

  #clearErrors() {
    this.alert.hidden = true
    setText(this.alert, "")
    this.retry.clear()
    for (const place of [...this.fields, ...this.zones]) place.setError(null)
  }
}

/** Fields that most people leave alone. @param {string} title @param {Field[]} fields */
export function folded(title, fields) {
  return el("details.advanced", {}, el("summary", {}, title), el("div.fields", {}, ...fields.map(({ element }) => element)))
}
