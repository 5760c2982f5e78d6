// @ts-check
// One job by its link: #job/<id>, live or finished.
import { el } from "./dom.js"
import { JobView } from "./view.js"

export class Shared {
  slug = "job"
  title = "Result"

  /** @param {import("./actions.js").Studio} studio */
  constructor(studio) {
    this.studio = studio
    this.heading = el("h1", { tabIndex: -1 }, this.title)
    this.place = el("div.single")
    this.element = el("section.view", { hidden: true, "aria-label": this.title }, el("header.lead", {}, this.heading), this.place)
    this.leave = () => {}
    this.id = ""
  }

  /** @param {string} id */
  show(id) {
    if (id === this.id) return
    this.id = id
    this.leave()
    const { connection } = this.studio
    const view = new JobView({ id, state: "accepted", params: {} }, { studio: this.studio, cancel: () => connection.cancel("job", id) })
    const unfollow = connection.follow("job", id, view.follower())
    this.leave = () => (unfollow(), view.dispose())
    this.place.replaceChildren(view.element)
  }
}
