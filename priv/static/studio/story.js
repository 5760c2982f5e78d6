// @ts-check
// The story: a video goes in; a caption, an image and a video come out. One pipeline, three jobs, each visible as it runs.
import { button } from "./actions.js"
import * as api from "./api.js"
import { announce, el, setText } from "./dom.js"
import { dropZones } from "./drop.js"
import { Retry } from "./retry.js"
import * as session from "./session.js"
import { JobView } from "./view.js"
import { errorWords } from "./words.js"

const STAGES = [
  { name: "caption", task: "video.understand", title: "1 · Caption", does: "What happens in the video is put into words." },
  { name: "image", task: "image.generate", title: "2 · Image", does: "The words become a picture." },
  { name: "video", task: "video.generate", title: "3 · Video", does: "The picture is set in motion." },
]

/** The tasks that a story needs. */
export const STORY_TASKS = STAGES.map(({ task }) => task)

export class Story {
  slug = "story"
  title = "Story"

  /** @param {any} inputs of the task that describes the video @param {import("./actions.js").Studio} studio */
  constructor(inputs, studio) {
    this.studio = studio
    const video = { ...inputs.video, required: true, description: "" }
    this.zone = dropZones({ video }, studio.connection)[0]
    this.zones = [this.zone]
    this.retry = new Retry(() => this.#send())
    this.alert = el("p.error.whole", { role: "alert", hidden: true })
    this.button = el("button.primary", { type: "submit" }, "Tell the story")
    this.heading = el("h1", { tabIndex: -1 }, this.title)
    this.outline = el("ol.stages.outline", {}, ...STAGES.map(({ title, does }) => el("li.empty", {}, el("strong", {}, title), el("span", {}, does))))
    this.runs = el("div.jobs", {}, this.outline)
    const submit = (/** @type {Event} */ event) => (event.preventDefault(), this.#send())
    this.element = el("section.view", { hidden: true, "aria-label": this.title },
      el("header.lead", {}, this.heading, el("p.muted", {}, "A video goes in. A caption, an image and a new video come out.")),
      el("form.panel.wide", { noValidate: true, onsubmit: submit }, this.zone.element, this.alert, this.retry.element, this.button),
      this.runs) // prettier-ignore
  }

  async #send() {
    if (this.button.disabled) return
    this.alert.hidden = true
    this.retry.clear()
    this.button.disabled = true
    try {
      const chosen = await this.zone.artifact()
      if (chosen) await this.#submit(chosen[1])
      else (this.zone.setError("Choose a video first."), this.zone.focus())
    } catch (error) {
      this.#refuse(/** @type {any} */ (error))
    } finally {
      this.button.disabled = false
    }
  }

  /** @param {string} artifact */
  async #submit(artifact) {
    const pipeline = await this.studio.connection.submitPipeline({ pipeline: "story", inputs: { video: artifact } })
    announce("The story begins.")
    this.show(pipeline.id).scrollIntoView({ block: "nearest" })
  }

  /** @param {import("./api.js").KomaError} error */
  #refuse(error) {
    if (error.retryAfterMs !== undefined) return this.retry.offer(errorWords(error), error.retryAfterMs)
    this.alert.hidden = false
    setText(this.alert, errorWords(error))
  }

  /** Follows a pipeline and shows its stages. @param {string} id @returns {HTMLElement} */
  show(id) {
    const dropped = () => {
      session.drop(id)
      this.outline.hidden = this.runs.children.length > 1
    }
    const run = new Run(id, this.studio, dropped)
    this.outline.hidden = true
    session.remember({ kind: "pipeline", id, task: this.slug })
    this.runs.prepend(run.element)
    return run.element
  }
}

class Run {
  /** @param {string} id @param {import("./actions.js").Studio} studio @param {() => void} dropped */
  constructor(id, studio, dropped) {
    const cancel = button("Cancel", () => this.#cancel())
    this.connection = studio.connection
    this.id = id
    this.problem = el("p.error.whole", { role: "alert", hidden: true })
    /** @type {Map<string, JobView>} */
    this.views = new Map(STAGES.map(({ name, title, task }) => [name, new JobView({ state: "waiting", task, params: {}, inputs: {} }, { studio, title })]))
    this.cancel = cancel
    this.close = el("button.quiet", { type: "button", hidden: true, onclick: () => this.#remove(dropped) }, "Dismiss")
    const stages = [...this.views.values()].map(({ element }) => el("li", {}, element))
    this.element = el("article.story", { "aria-label": "Story" }, el("header", {}, el("h2", {}, "Story"), cancel, this.close), this.problem, el("ol.stages", {}, ...stages))
    this.leave = this.connection.follow("pipeline", id, {
      joined: (told) => this.#joined(told),
      event: (event, payload) => this.#event(event, payload),
      preview: (preview) => this.views.get(preview.stage ?? "")?.preview(preview),
      lost: (error) => this.#end(error),
    })
  }

  // Which job runs for a stage; what has happened to it is told by the events.
  /** @param {any} told */
  #joined(told) {
    for (const { name, job } of told.stages) this.#identify(name, job)
  }

  /** @param {string} stage @param {string | undefined} id */
  #identify(stage, id) {
    const view = this.views.get(stage)
    if (view && id) view.job = { ...view.job, id }
  }

  /** @param {string} event @param {any} payload */
  #event(event, payload) {
    if (event === "stage") {
      this.#identify(payload.stage, payload.job)
      this.views.get(payload.stage)?.event(payload.event, payload.payload)
      if (payload.event === "completed") this.#complete(payload.stage, payload.job)
    } else this.#end(event === "completed" ? null : payload)
  }

  // With what the events of a stage do not tell: the model, the parameters.
  /** @param {string} stage @param {string} id */
  async #complete(stage, id) {
    const job = await api.job(id).catch(() => null)
    if (job) this.views.get(stage)?.joined(job)
  }

  /** @param {any} error */
  #end(error) {
    this.cancel.hidden = true
    this.close.hidden = false
    if (!error || error.code === "cancelled") return
    this.problem.hidden = false
    setText(this.problem, errorWords(error))
  }

  async #cancel() {
    this.cancel.disabled = true
    try {
      await this.connection.cancel("pipeline", this.id)
    } catch (error) {
      this.cancel.disabled = false
      this.problem.hidden = false
      setText(this.problem, errorWords(/** @type {any} */ (error)))
    }
  }

  /** @param {() => void} dropped */
  #remove(dropped) {
    this.leave()
    for (const view of this.views.values()) view.dispose()
    this.element.remove()
    dropped()
  }
}
