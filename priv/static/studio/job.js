// @ts-check
// What is known of one job: the fold of its events. No page, no network.

const ENDED = ["completed", "failed", "cancelled", "expired"]

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {string} task
 * @property {string} model
 * @property {string} state accepted, queued, running, retrying, completed, failed, cancelled, expired
 * @property {Record<string, any>} params
 * @property {Record<string, string>} inputs
 * @property {number} attempt
 * @property {number} [position] in the queue
 * @property {number | null} [wait_ms] estimate of the wait
 * @property {string} phase
 * @property {number} step
 * @property {number} total
 * @property {number | null} eta_ms
 * @property {number} told when the latest event came, ms since 1970 on this machine
 * @property {string[]} tokens
 * @property {Record<string, {notice?: string}>} [prompts] how much of each prompt the model reads
 * @property {any[]} [outputs]
 * @property {any} [error]
 * @property {any} [retry] why the attempt before was lost
 * @property {number} [seed]
 * @property {any} [timings]
 * @property {boolean} [cached]
 * @property {number} created_at
 * @property {number} [finished_at]
 */

/** A job as the server told it, before its events. @param {any} told @returns {Job} */
export function newJob(told) {
  return { phase: "", step: 0, total: 0, eta_ms: null, told: Date.now(), tokens: [], ...told }
}

/** @param {{state: string}} job */
export function ended(job) {
  return ENDED.includes(job.state)
}

/** What the model does not read of its prompts, in words; empty where it reads all. @param {Job} job */
export function unread(job) {
  const told = job.outputs?.[0]?.meta?.notice
  if (typeof told === "string") return told
  return Object.values(job.prompts ?? {}).flatMap(({ notice }) => (notice ? [notice] : [])).join(" ")
}

/** The text so far. @param {Job} job */
export function text(job) {
  const output = job.outputs?.find((one) => one.text !== undefined)
  return output ? output.text : job.tokens.join("")
}

/** The job after an event of docs/api.md. @param {Job} job @param {string} event @param {any} payload @returns {Job} */
export function apply(job, event, payload) {
  const next = { ...job, told: Date.now() }
  switch (event) {
    case "queued":
      return { ...next, state: "queued", position: payload.position, wait_ms: payload.wait_ms }
    case "started":
      return { ...next, state: "running", ...nothingYet(payload.total), attempt: payload.attempt, eta_ms: payload.estimate_ms || null }
    case "progress":
      return { ...next, state: "running", phase: payload.phase, step: payload.step, total: payload.total, eta_ms: payload.eta_ms, prompts: payload.prompts ?? job.prompts }
    case "token":
      return { ...next, tokens: Object.assign([...job.tokens], { [payload.index]: payload.text }) }
    case "retrying":
      return { ...next, state: "retrying", ...nothingYet(job.total), retry: payload }
    case "completed":
      return { ...next, state: "completed", outputs: payload.outputs, seed: payload.seed ?? job.seed, timings: payload.timings, cached: payload.cached, finished_at: payload.at }
    case "failed":
    case "cancelled":
    case "expired":
      return { ...next, state: event, error: payload, finished_at: payload.at }
    default:
      return job
  }
}

// What an attempt that was lost has shown is void.
/** @param {number} total */
function nothingYet(total) {
  return { step: 0, total, phase: "", tokens: /** @type {string[]} */ ([]), eta_ms: null }
}
