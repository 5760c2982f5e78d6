// @ts-check
// "Not now": counts down and offers to try again.
import { el, setText } from "./dom.js"
import { wait } from "./words.js"

export class Retry {
  /** @param {() => void} again */
  constructor(again) {
    this.words = el("p", { role: "alert" })
    this.countdown = el("p.muted")
    this.button = el("button", { type: "button", onclick: () => (this.clear(), again()) }, "Try again")
    this.element = el("div.retry", { hidden: true }, this.words, this.countdown, this.button)
    this.timer = 0
  }

  /** @param {string} message @param {number} ms until it makes sense */
  offer(message, ms) {
    this.clear()
    this.element.hidden = false
    setText(this.words, message)
    const at = Date.now() + ms
    const tick = () => {
      const left = at - Date.now()
      this.button.disabled = left > 0
      setText(this.countdown, left > 0 ? `You can try again in ${wait(left)}.` : "You can try again now.")
      if (left <= 0) clearInterval(this.timer)
    }
    this.timer = setInterval(tick, 250)
    tick()
  }

  clear() {
    clearInterval(this.timer)
    this.element.hidden = true
    setText(this.words, "")
  }
}
