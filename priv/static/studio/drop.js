// @ts-check
// Where a file goes in: chosen, dropped or pasted, checked, uploaded at once with its progress, shown.
import { KomaError, upload } from "./api.js"
import { el, setText, uniqueId } from "./dom.js"
import { artifactUrl, mediaOf, sourced } from "./media.js"
import { errorWords, humanize, mediaNames, size } from "./words.js"

/** @typedef {{name: string, media_types: string[], required: boolean, description: string}} Input */

/**
 * The zones of a task. Optional inputs that take different kinds of files ("a video or an image") share one.
 * @param {Record<string, any>} inputs as the family declares them
 * @param {import("./connection.js").Connection} connection
 * @returns {DropZone[]}
 */
export function dropZones(inputs, connection) {
  const list = Object.entries(inputs).map(([name, input]) => ({ name, ...input }))
  const types = list.flatMap(({ media_types }) => media_types)
  const together = list.length > 1 && list.every(({ required }) => !required) && new Set(types).size === types.length
  return (together ? [list] : list.map((input) => [input])).map((group) => new DropZone(group, connection))
}

export class DropZone {
  /** @param {Input[]} inputs @param {import("./connection.js").Connection} connection */
  constructor(inputs, connection) {
    this.inputs = inputs
    this.connection = connection
    this.types = inputs.flatMap(({ media_types }) => media_types ?? [])
    /** @type {Promise<[string, string] | null>} name of the input and id of the artifact */
    this.uploading = Promise.resolve(null)
    this.cancelUpload = new AbortController()
    this.id = uniqueId("file")
    this.#draw()
  }

  /** Whether this is where the input of that name goes in. @param {string} name */
  takes(name) {
    return this.inputs.some((input) => input.name === name)
  }

  /** Whether a file of this type fits. @param {string} type */
  accepts(type) {
    return this.types.length === 0 || this.types.includes(type)
  }

  /** The name of the input and the id of the artifact, once it is uploaded; null without a file. */
  artifact() {
    return this.uploading
  }

  /** Takes a file from the person's machine. @param {File} file */
  async put(file) {
    this.clear()
    this.#show(file.name, file.size)
    const { signal } = this.cancelUpload
    this.uploading = this.#check(file).then(() => this.#upload(file, signal))
    // Told at the field now, and again to whoever submits.
    this.uploading.catch((error) => signal.aborted || this.#refuse(error))
  }

  /** Takes what is on the server already, for the input of that name. @param {string} artifact @param {string} name */
  putArtifact(artifact, name) {
    this.clear()
    this.#show("From earlier work", 0)
    this.#picture(mediaOf(name), artifactUrl(artifact))
    this.uploading = Promise.resolve([name, artifact])
  }

  /** The name of the input that a file of this type goes into. @param {string} type */
  inputFor(type) {
    return (this.inputs.find(({ media_types }) => media_types?.includes(type)) ?? this.inputs[0]).name
  }

  clear() {
    this.cancelUpload.abort(new KomaError({ code: "cancelled", message: "The upload was cancelled." }))
    this.cancelUpload = new AbortController()
    this.uploading = Promise.resolve(null)
    if (this.shownUrl?.startsWith("blob:")) URL.revokeObjectURL(this.shownUrl)
    this.shownUrl = undefined
    this.picker.value = ""
    this.chosen.hidden = true
    this.prompt.hidden = false
    this.thumb.replaceChildren()
    this.setError(null)
  }

  /** @param {string | null} message */
  setError(message) {
    this.error.hidden = message === null
    setText(this.error, message === null ? "" : this.#named(message))
    if (message === null) this.picker.removeAttribute("aria-invalid")
    else this.picker.setAttribute("aria-invalid", "true")
  }

  focus() {
    this.picker.focus()
  }

  /** @param {File} file */
  async #check(file) {
    if (!this.accepts(file.type)) {
      const given = file.type ? `is of the type ${file.type}` : "is of an unknown type"
      throw new KomaError({ code: "unsupported_media", message: `“${file.name}” ${given}, which does not go in here; choose ${mediaNames(this.types)}.` })
    }
    if (file.size === 0) throw new KomaError({ code: "invalid_media", message: `“${file.name}” is empty; choose another file.` })
    const { upload_bytes: most } = await this.connection.limits()
    if (file.size > most) throw new KomaError({ code: "too_large", message: `“${file.name}” has ${size(file.size)}; at most ${size(most)} are taken.` })
  }

  /** @param {File} file @param {AbortSignal} signal @returns {Promise<[string, string]>} */
  async #upload(file, signal) {
    signal.throwIfAborted()
    this.#picture(file.type, URL.createObjectURL(file))
    this.progress.hidden = false
    const onprogress = (/** @type {number} */ share) => (this.progress.value = share)
    const { id, media_type } = await upload(file, { signal, onprogress })
    this.progress.hidden = true
    // What a file is decides, not what it is called: the server has looked into it.
    return [this.inputFor(this.accepts(media_type) ? media_type : file.type), id]
  }

  /** Says why; the file is not shown any more, so its name is said as well. @param {KomaError} error */
  #refuse(error) {
    const words = this.#named(errorWords(error))
    this.clear()
    this.setError(words)
  }

  /** What the server calls by the name of the input is here the file that is shown. @param {string} message */
  #named(message) {
    if (this.chosen.hidden) return message.replace(/^inputs\.\w+/i, "The file")
    const name = this.fileName.textContent
    const named = message.replace(/^inputs\.\w+/i, () => `“${name}”`)
    return named.includes(name) ? named : `“${name}”: ${named}`
  }

  /** @param {string} name @param {number} bytes */
  #show(name, bytes) {
    this.chosen.hidden = false
    this.prompt.hidden = true
    this.progress.value = 0
    this.progress.hidden = true
    setText(this.fileName, name)
    setText(this.fileSize, bytes ? size(bytes) : "")
  }

  /** @param {string} type @param {string} url */
  #picture(type, url) {
    this.shownUrl = url
    if (type.startsWith("image")) this.thumb.replaceChildren(sourced(el("img", { alt: "" }), url))
    if (type.startsWith("video")) this.thumb.replaceChildren(sourced(el("video", { muted: true, preload: "metadata", "aria-hidden": "true", tabIndex: -1 }), url))
  }

  #draw() {
    const title = this.inputs.map(({ name }) => humanize(name)).join(" or ")
    const optional = this.inputs.length === 1 && !this.inputs[0].required ? " (optional)" : ""
    this.error = el("p.error", { id: `${this.id}-error`, hidden: true })
    this.help = el("p.help", { id: `${this.id}-help` }, this.inputs.length === 1 ? this.inputs[0].description : "")
    this.picker = el("input.hidden", {
      id: this.id, type: "file", accept: this.types.join(","), "aria-describedby": `${this.error.id} ${this.help.id}`,
      onchange: () => this.picker.files[0] && this.put(this.picker.files[0]),
    }) // prettier-ignore
    this.thumb = el("div.thumb")
    this.fileName = el("p.name")
    this.fileSize = el("p.muted")
    this.progress = el("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" })
    const remove = el("button.quiet", { type: "button", onclick: () => (this.clear(), this.focus()) }, "Remove")
    this.chosen = el("div.chosen", { hidden: true }, this.thumb, el("div.grow", {}, this.fileName, this.fileSize, this.progress), remove)
    const types = mediaNames(this.types)
    const choose = el("label.choose", { htmlFor: this.id, "aria-hidden": "true" }, "Choose a file")
    this.prompt = el("div.prompt", {}, el("p.muted", { "aria-hidden": "true" }, `Drop or paste ${types}`), choose)
    this.zone = el("div.drop", {}, this.picker, this.prompt, this.chosen)
    this.element = el("div.field", {}, el("label", { htmlFor: this.id }, title + optional), this.zone, this.error, this.help)
    this.#listen()
  }

  #listen() {
    const over = (/** @type {boolean} */ is) => this.zone.classList.toggle("over", is)
    this.zone.addEventListener("dragover", (/** @type {Event} */ event) => (event.preventDefault(), over(true)))
    this.zone.addEventListener("dragleave", () => over(false))
    this.zone.addEventListener("drop", (/** @type {DragEvent} */ event) => {
      event.preventDefault()
      event.stopPropagation()
      over(false)
      this.putFrom(event.dataTransfer)
    })
  }

  /** Takes what was dropped or pasted. @param {DataTransfer | null} data */
  putFrom(data) {
    const files = [...(data?.files ?? [])]
    if (files.length === 1) this.put(files[0])
    else this.setError(files.length ? `One file at a time; these are ${files.length}.` : "Only files can be dropped here.")
  }
}
