// @ts-check
// One job on the page: its wait, its progress, its previews, its end.
import { actions, button } from "./actions.js"
import { announce, el, setText } from "./dom.js"
import { apply, ended, newJob, text, unread } from "./job.js"
import { facts, figure, frame, parameters, sources, titleOf } from "./result.js"
import { errorWords, wait } from "./words.js"

const TITLES = /** @type {Record<string, string>} */ ({
  waiting: "Waiting",
  accepted: "Accepted",
  queued: "In the queue",
  running: "Running",
  retrying: "Trying again",
  completed: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  expired: "Expired",
})

export class JobView {
  /**
   * @param {any} told the job as the server told it, or what is known of it: a join tells the rest
   * @param {object} options
   * @param {import("./actions.js").Studio} options.studio
   * @param {string} [options.title] the job's prompt without one
   * @param {() => Promise<any>} [options.cancel]
   * @param {(error: any) => void} [options.failed] called before the page shows that it failed
   * @param {() => void} [options.removed] the person wants to see it no longer, or it was deleted
   */
  constructor(told, { studio, title, cancel, failed, removed }) {
    this.studio = studio
    this.failed = failed
    this.removed = removed
    this.job = newJob(told)
    this.named = title
    this.title = el("h3", {}, title ?? titleOf(this.job))
    this.state = el("span.state")
    this.cancel = cancel && button("Cancel", () => this.#cancel(cancel))
    this.close = removed && el("button.quiet", { type: "button", onclick: removed }, "Dismiss")
    this.source = el("div.source")
    this.canvas = el("div.canvas")
    this.bar = el("progress", { "aria-label": "Progress" })
    this.line = el("p.muted")
    this.note = el("p.note", { hidden: true })
    this.heed = el("p.heed", { hidden: true })
    this.problem = el("p.error.whole", { role: "alert", hidden: true })
    this.progress = el("div.progress", {}, this.bar, this.line)
    this.end = el("div.end")
    this.element = el("article.job", { "aria-label": title ?? "Job" },
      el("header", {}, this.title, this.state, this.cancel, this.close), this.source, this.canvas, this.heed, this.note, this.progress, this.problem, this.end) // prettier-ignore
    this.#drawSource()
    this.timer = setInterval(() => this.#drawLine(), 1000)
    this.#draw()
  }

  /** What `Connection.follow` tells. @returns {import("./connection.js").Follower} */
  follower() {
    return {
      joined: (told) => this.joined(told),
      event: (event, payload) => this.event(event, payload),
      preview: (preview) => this.preview(preview),
      lost: (error) => this.lost(error),
    }
  }

  /** The job as it is at a join. Of one that lives only the first is news: its events tell the rest. @param {any} told */
  joined(told) {
    if (this.job.task && !ended(told)) return
    this.job = { ...this.job, ...told }
    if (!this.named) setText(this.title, titleOf(this.job))
    this.#drawSource()
    this.#draw()
    if (this.job.state === "failed") this.failed?.(this.job.error)
  }

  /** @param {string} event @param {any} payload */
  event(event, payload) {
    if (ended(this.job)) return // the end was told at the join already
    const before = this.job.state
    this.job = apply(this.job, event, payload)
    if (this.job.state !== before || event === "started") this.#tell()
    if (event === "failed") this.failed?.(payload)
    this.#draw(event)
  }

  /** @param {{step: number, total: number, image: Blob, media_type: string}} preview */
  preview({ image, media_type }) {
    if (ended(this.job) || !media_type.startsWith("image/")) return
    const url = URL.createObjectURL(image)
    const picture = this.canvas.querySelector("img.preview") ?? el("img.picture.preview", { alt: "Preview" })
    if (this.previewUrl) URL.revokeObjectURL(this.previewUrl)
    this.previewUrl = url
    picture.src = url
    picture.dataset.shown = String(Number(picture.dataset.shown ?? 0) + 1)
    if (!picture.isConnected) this.canvas.replaceChildren(frame(picture))
  }

  /** @param {import("./api.js").KomaError} error */
  lost(error) {
    this.job = { ...this.job, state: "failed", error: { code: error.code, message: error.code === "not_found" ? "This result is not on the server any more." : error.message } }
    this.#draw()
  }

  dispose() {
    clearInterval(this.timer)
    if (this.previewUrl) URL.revokeObjectURL(this.previewUrl)
  }

  /** @param {() => Promise<any>} cancel */
  async #cancel(cancel) {
    this.cancel.disabled = true
    try {
      await cancel()
    } catch (error) {
      this.cancel.disabled = false
      this.#showProblem(errorWords(/** @type {any} */ (error)))
    }
  }

  #tell() {
    const title = this.title.textContent
    if (this.job.state === "completed") announce(`${title}: done. ${text(this.job).slice(0, 300)}`)
    else if (this.job.state !== "failed") announce(`${title}: ${TITLES[this.job.state]}.`)
    if (this.job.state === "completed") this.studio.finished()
  }

  /** @param {string} [event] that led here */
  #draw(event) {
    const { state } = this.job
    const over = ended(this.job)
    this.element.dataset.state = state
    setText(this.state, TITLES[state] ?? state)
    if (this.cancel) this.cancel.hidden = over
    if (this.close) this.close.hidden = !over
    this.progress.hidden = over || state === "waiting"
    if (event === "started" || state === "retrying") this.canvas.replaceChildren()
    this.#drawNote()
    this.#drawLine()
    if (over) this.#drawEnd()
    else if (event === "token") this.#drawText()
  }

  // In a story the stage before shows what goes in.
  #drawSource() {
    const given = this.named ? null : sources(this.job)
    this.source.replaceChildren(...(given ? [given] : []))
  }

  #drawNote() {
    const { state, attempt, retry } = this.job
    const again = retry && (state === "retrying" || state === "queued" || (state === "running" && attempt > 1))
    this.note.hidden = !again
    const heed = unread(this.job)
    this.heed.hidden = heed === ""
    setText(this.heed, heed)
    if (again) setText(this.note, `The model stopped while it worked on this. It runs again from the start, with the same seed (attempt ${Math.max(attempt, retry.attempt + 1)}).`)
  }

  #drawText() {
    const answer = this.canvas.querySelector("p.answer") ?? el("p.answer.growing")
    setText(answer, text(this.job))
    if (!answer.isConnected) this.canvas.replaceChildren(answer)
  }

  // Step, total and time left; or the place in the queue.
  #drawLine() {
    const { state, step, total, phase } = this.job
    if (state === "running" && total && phase !== "prepare") {
      this.bar.max = total
      this.bar.value = Math.min(step, total)
      setText(this.line, [`Step ${step} of ${total}`, this.#timeLeft()].filter(Boolean).join(" · "))
    } else {
      this.bar.removeAttribute("value")
      setText(this.line, this.#waiting())
    }
  }

  #timeLeft() {
    const { eta_ms, told, step, total } = this.job
    if (step >= total) return "finishing"
    if (eta_ms === null || eta_ms === undefined) return ""
    const left = eta_ms - (Date.now() - told)
    return left > 0 ? `about ${wait(left)} left` : "nearly there"
  }

  #waiting() {
    const { state, position, wait_ms } = this.job
    if (state === "running") return "Getting ready"
    if (state === "retrying") return "Waiting for the model to come back"
    if (state !== "queued") return ""
    const place = position ? `Number ${position} in the queue` : "In the queue"
    return wait_ms ? `${place} · starts in about ${wait(wait_ms)}` : place
  }

  #drawEnd() {
    clearInterval(this.timer)
    const { state, outputs, error } = this.job
    if (state === "completed" && outputs) {
      this.canvas.replaceChildren(...outputs.map((output) => figure(output, this.job, this.studio)))
      this.end.replaceChildren(
        facts(this.job),
        actions(this.job, this.studio, () => this.removed?.()),
        parameters(this.job),
      )
    } else if (state === "cancelled" && error?.code === "cancelled") {
      this.canvas.replaceChildren()
    } else {
      this.canvas.replaceChildren()
      this.#showProblem(errorWords(error ?? {}))
      if (this.job.task && this.job.params) this.end.replaceChildren(el("div.actions", {}, button("Again", () => this.studio.again(this.job, { newSeed: false }))))
    }
  }

  /** @param {string} message */
  #showProblem(message) {
    this.problem.hidden = false
    setText(this.problem, message)
  }
}
