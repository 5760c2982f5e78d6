// @ts-check
// Finished work, newest first.
import * as api from "./api.js"
import { actions } from "./actions.js"
import { el, setText } from "./dom.js"
import { newJob } from "./job.js"
import { facts, figure, parameters, sources, titleOf } from "./result.js"
import { errorWords, plural, taskWords } from "./words.js"

const PAGE = 24

export class Gallery {
  slug = "gallery"
  title = "Gallery"
  zones = /** @type {import("./drop.js").DropZone[]} */ ([])

  /** @param {import("./actions.js").Studio} studio */
  constructor(studio) {
    this.studio = studio
    this.limit = PAGE
    this.heading = el("h1", { tabIndex: -1 }, this.title)
    this.choice = el("select", { id: "gallery-task", onchange: () => this.load() }, el("option", { value: "" }, "Everything"))
    this.count = el("p.muted", { role: "status" })
    this.problem = el("p.error.whole", { role: "alert", hidden: true })
    this.tiles = el("ul.tiles")
    this.more = el("button", { type: "button", hidden: true, onclick: () => ((this.limit += PAGE), this.load()) }, "Show more")
    this.element = el("section.view", { hidden: true, "aria-label": this.title },
      el("header.lead", {}, this.heading, el("p.muted", {}, "What was made on this server, with all that is needed to make it again.")),
      el("div.bar", {}, el("label", { htmlFor: "gallery-task" }, "Show"), this.choice, this.count),
      this.problem, this.tiles, this.more) // prettier-ignore
  }

  /** Offers the tasks to choose from. @param {string[]} tasks */
  offer(tasks) {
    const chosen = this.choice.value
    this.choice.replaceChildren(el("option", { value: "" }, "Everything"), ...tasks.map((task) => el("option", { value: task }, taskWords(task).title)))
    this.choice.value = chosen
  }

  /** Asks the server and draws what is new; tiles that stay keep their state. */
  async load() {
    try {
      const jobs = await api.completed(this.choice.value, this.limit + 1)
      this.problem.hidden = true
      this.#draw(jobs.slice(0, this.limit), jobs.length > this.limit)
    } catch (error) {
      this.problem.hidden = false
      setText(this.problem, errorWords(/** @type {any} */ (error)))
    }
  }

  /** @param {any[]} jobs @param {boolean} more */
  #draw(jobs, more) {
    const there = new Map([...this.tiles.children].map((tile) => [tile.dataset.id, tile]))
    this.tiles.replaceChildren(...jobs.map((job) => there.get(job.id) ?? this.#tile(newJob(job))))
    this.more.hidden = !more
    setText(this.count, jobs.length ? plural(jobs.length, "result") : "Nothing is finished yet.")
  }

  /** @param {import("./job.js").Job} job */
  #tile(job) {
    const gone = () => {
      tile.remove()
      setText(this.count, plural(this.tiles.children.length, "result"))
      this.heading.focus()
    }
    const tile = el("li.tile", { dataset: { id: job.id } },
      ...(job.outputs ?? []).map((output) => figure(output, job, this.studio)),
      el("h2", {}, titleOf(job)),
      sources(job),
      facts(job), actions(job, this.studio, gone), parameters(job)) // prettier-ignore
    return tile
  }
}
