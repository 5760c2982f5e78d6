// @ts-check
// One task on a view of its own: the form on one side, its jobs on the other.
import { announce, el } from "./dom.js"
import { Form } from "./form.js"
import * as session from "./session.js"
import { JobView } from "./view.js"
import { taskWords } from "./words.js"

export class Tool {
  /**
   * @param {string} task
   * @param {{family: string, spec: any, notice?: string}[]} families that serve it
   * @param {import("./actions.js").Studio} studio
   */
  constructor(task, families, studio) {
    this.task = task
    this.studio = studio
    this.families = families
    const words = taskWords(task)
    this.slug = words.slug
    this.title = words.title
    this.form = new Form({ task, families, action: words.action, connection: studio.connection, submit: (request) => this.submit(request) })
    this.empty = el("p.empty", {}, words.empty)
    this.jobs = el("div.jobs", {}, this.empty)
    /** @type {Map<string, JobView>} */
    this.views = new Map()
    this.heading = el("h1", { tabIndex: -1 }, words.title)
    this.element = el("section.view", { hidden: true, "aria-label": words.title },
      el("header.lead", {}, this.heading, words.lead && el("p.muted", {}, words.lead), ...families.map(notice)),
      el("div.tool", {}, this.form.element, this.jobs)) // prettier-ignore
  }

  /** @param {object} request */
  async submit(request) {
    const job = await this.studio.connection.submit({ task: this.task, ...request })
    announce("The job is accepted.")
    this.show(job).element.scrollIntoView({ block: "nearest" })
  }

  /** Runs the same again, by the form, so that it can be changed afterwards. @param {any} job @param {{newSeed: boolean}} options */
  again(job, { newSeed }) {
    this.form.fill(newSeed ? { ...job, params: { ...job.params, seed: null } } : job)
    this.form.send()
  }

  /** Whether the form has a prompt. */
  takesText() {
    return this.form.fields.some(({ name }) => name === "prompt")
  }

  /** @param {string} text */
  useText(text) {
    this.form.fields.find(({ name }) => name === "prompt")?.set(text)
  }

  /** Follows a job and shows it, newest first. @param {any} job as told, or its id and task */
  show(job) {
    const { connection } = this.studio
    const removed = () => {
      leave()
      view.dispose()
      view.element.remove()
      session.drop(job.id)
      this.views.delete(job.id)
      this.empty.hidden = this.jobs.children.length > 1
    }
    // What only the model could find wrong with the request is said where it can be changed; after a reload its form is gone.
    const submitted = job.task !== ""
    const failed = (/** @type {any} */ error) => submitted && this.form.placeOf(error) && (this.form.showError(error), removed())
    const cancel = () => connection.cancel("job", job.id)
    const view = new JobView(job, { studio: this.studio, cancel, failed, removed })
    const leave = connection.follow("job", job.id, view.follower())
    session.remember({ kind: "job", id: job.id, task: this.task })
    this.views.set(job.id, view)
    this.empty.hidden = true
    this.jobs.prepend(view.element)
    return view
  }
}

/** What a family says of its checkpoint. @param {{family: string, notice?: string}} family */
function notice({ family, notice: text }) {
  return text ? el("p.notice", {}, el("strong", {}, family), `: ${text}`) : null
}
