// @ts-check
// The HTTP routes of Koma (docs/api.md), as far as the Studio asks them.
import { forgetKey, headers, key } from "./key.js"

/** An error as the server tells it: a code of errors.json, a message, and the field it concerns. */
export class KomaError extends Error {
  /** @param {{code: string, message: string, field?: string, value?: any, bound?: any, retry_after_ms?: number}} told */
  constructor(told) {
    super(told.message)
    this.code = told.code
    this.field = told.field
    this.bound = told.bound
    this.retryAfterMs = told.retry_after_ms
  }
}

/** What cannot be reached is an error like any other. */
export function unreachable() {
  return new KomaError({ code: "unreachable", message: "The server cannot be reached at the moment. Try again when the connection is back." })
}

/** @param {string} path @param {RequestInit} [options] @param {Record<string, string>} [more] headers @returns {Promise<Response>} an answer that is none of an error */
async function ask(path, options, more) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...more } }).catch(() => {
    throw unreachable()
  })
  if (response.ok) return response
  if (response.status === 401 && key()) forgetKey() // it was taken away
  const body = await response.json().catch(() => null)
  throw new KomaError(body?.error ?? { code: "internal", message: `The server answered with status ${response.status}.` })
}

/**
 * How much of each prompt the model reads.
 * @param {{task: string, model?: string, params: Record<string, string>}} draft
 * @param {AbortSignal} signal
 * @returns {Promise<Record<string, {tokens: number, read: number, unknown: number, limit: number, notice?: string}>>}
 */
export async function count(draft, signal) {
  const options = { method: "POST", body: JSON.stringify(draft), signal }
  return (await ask("/v1/count", options, { "content-type": "application/json" })).json()
}

/** @param {string} path @returns {Promise<any>} */
const json = async (path) => (await ask(path)).json()

/** The bytes of an artifact. @param {string} url */
export const blob = async (url) => (await ask(url)).blob()

/** The families with their tasks and schemas. @returns {Promise<any[]>} */
export const models = async () => (await json("/v1/models")).data

/** Finished jobs, newest first. @param {string} task @param {number} limit @returns {Promise<any[]>} */
export const completed = (task, limit) =>
  json(`/v1/jobs?${new URLSearchParams({ state: "completed", limit: String(limit), ...(task ? { task } : {}) })}`)

/** @param {string} id @returns {Promise<any>} */
export const job = (id) => json(`/v1/jobs/${encodeURIComponent(id)}`)

/** Forgets a finished job. @param {string} id */
export async function forget(id) {
  await ask(`/v1/jobs/${encodeURIComponent(id)}?forget=true`, { method: "DELETE" })
}

/** Which marks a file bears; the server does not keep it. @param {File} file @returns {Promise<any>} */
export const verify = async (file) => (await ask("/v1/verify", { method: "POST", body: file }, { "content-type": "application/octet-stream" })).json()

/**
 * Stores a file. `XMLHttpRequest`, because `fetch` does not tell how far an upload is.
 * @param {File} file
 * @param {{signal: AbortSignal, onprogress: (share: number) => void}} options
 * @returns {Promise<{id: string, bytes: number, media_type: string}>}
 */
export function upload(file, { signal, onprogress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open("POST", "/v1/artifacts")
    request.setRequestHeader("content-type", file.type)
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value)
    request.responseType = "json"
    request.upload.onprogress = ({ loaded, total }) => onprogress(total ? loaded / total : 0)
    request.onerror = () => reject(new KomaError({ code: "unreachable", message: "The upload was interrupted. Choose the file again." }))
    request.onload = () => {
      if (request.status < 300) resolve(request.response)
      else reject(new KomaError(request.response?.error ?? { code: "internal", message: `The server refused the file (${request.status}).` }))
    }
    request.onabort = () => reject(signal.reason)
    signal.addEventListener("abort", () => request.abort())
    request.send(file)
  })
}
