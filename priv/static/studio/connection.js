// @ts-check
// The one WebSocket of the page, by the official client of Phoenix: submits, and follows jobs and pipelines over every loss of the connection.
import { Socket } from "/static/vendor/phoenix.mjs"
import { KomaError, unreachable } from "./api.js"
import { key } from "./key.js"

const ENDED = ["completed", "failed", "cancelled", "expired"]

/**
 * @typedef {object} Follower
 * @property {(event: string, payload: any) => void} event every event once, in order
 * @property {(preview: {step: number, total: number, media_type: string, image: Blob, stage?: string}) => void} preview
 * @property {(snapshot: any) => void} joined the job or pipeline, at each join
 * @property {(error: KomaError) => void} lost it cannot be followed, for good
 */

export class Connection extends EventTarget {
  #socket = new Socket("/socket", { authToken: key() ?? undefined })
  #jobs = this.#socket.channel("jobs", {})
  #welcome

  state = "connecting"

  constructor() {
    super()
    this.#socket.onOpen(() => this.#become("connected"))
    this.#socket.onClose(() => this.#become("lost"))
    this.#welcome = new Promise((resolve) => this.#jobs.join().receive("ok", resolve))
  }

  connect() {
    this.#socket.connect()
    // The browser knows at once when there is a network again; the client would wait out its pause.
    addEventListener("online", () => this.#socket.isConnected() || this.#reconnect())
  }

  /** What the server takes at most. @returns {Promise<{upload_bytes: number}>} */
  async limits() {
    return (await this.#welcome).limits
  }

  /** @param {object} request @returns {Promise<any>} the job */
  submit(request) {
    return this.#push("submit", request)
  }

  /** @param {object} request @returns {Promise<any>} the pipeline */
  submitPipeline(request) {
    return this.#push("submit_pipeline", request)
  }

  /** @param {"job" | "pipeline"} kind @param {string} id */
  cancel(kind, id) {
    return this.#push(kind === "job" ? "cancel" : "cancel_pipeline", { id })
  }

  /**
   * Follows a job or pipeline to its end. After each loss it joins again with the number of the last event that it saw.
   * @param {"job" | "pipeline"} kind @param {string} id @param {Follower} follower
   * @returns {() => void} ends it
   */
  follow(kind, id, follower) {
    let seen = 0
    const channel = this.#socket.channel(`${kind}:${id}`, () => ({ after: seen, previews: "binary" }))
    channel.onMessage = (/** @type {string} */ event, /** @type {any} */ payload) => {
      if (event === "preview") follower.preview(readPreview(payload))
      else if (payload?.seq > seen) {
        seen = payload.seq
        follower.event(event, payload)
        if (ENDED.includes(event)) channel.leave()
      }
      return payload
    }
    channel
      .join()
      .receive("ok", (/** @type {any} */ reply) => follower.joined(reply[kind]))
      .receive("error", (/** @type {any} */ error) => {
        if (["unavailable", "draining"].includes(error.code)) return // the client joins again
        channel.leave()
        follower.lost(new KomaError(error))
      })
    return () => channel.leave()
  }

  /** @param {string} event @param {object} payload @returns {Promise<any>} */
  #push(event, payload) {
    if (!this.#socket.isConnected()) return Promise.reject(unreachable())
    return new Promise((resolve, reject) =>
      this.#jobs
        .push(event, payload)
        .receive("ok", resolve)
        .receive("error", (/** @type {any} */ error) => reject(new KomaError(error)))
        .receive("timeout", () => reject(new KomaError({ code: "timeout", message: "No answer." }))),
    )
  }

  #reconnect() {
    this.#socket.disconnect(() => this.#socket.connect())
  }

  /** @param {string} state */
  #become(state) {
    this.state = state
    this.dispatchEvent(new Event("change"))
  }
}

/** The binary form: length of the header, header, bytes of the image. @param {ArrayBuffer} buffer */
function readPreview(buffer) {
  const length = new DataView(buffer).getUint32(0)
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)))
  return { ...header, image: new Blob([new Uint8Array(buffer, 4 + length)], { type: header.media_type }) }
}
