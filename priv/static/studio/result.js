// @ts-check
// What a job has made: pictures, videos and texts, each labelled as made by a machine, and what they were made from.
import { download, menu } from "./actions.js"
import { el } from "./dom.js"
import { artifactUrl, mediaOf, sourced } from "./media.js"
import { duration, humanize, size, taskWords, when } from "./words.js"

const SMALL = 8_000_000 // bytes of a video that is loaded before anybody plays it

/** One output with its label. @param {any} output @param {import("./job.js").Job} job @param {import("./actions.js").Studio} studio */
export function figure(output, job, studio) {
  const name = job.outputs?.length === 1 ? null : el("span.muted", {}, humanize(output.name))
  const caption = el("figcaption", {}, el("span.badge", {}, "AI-generated"), name, el("span.grow"), download(output), menu("Use in", studio.targets(output)))
  return el("figure.result", {}, shown(output, job), caption)
}

/** @param {any} output @param {import("./job.js").Job} job */
function shown(output, job) {
  const { media_type, url, meta, bytes } = output
  if (output.text !== undefined) return el("p.answer", {}, output.text)
  if (media_type.startsWith("image/")) return frame(sourced(el("img.picture", { alt: titleOf(job), ...sized(meta), loading: "lazy" }), url))
  if (media_type.startsWith("audio/")) return sourced(el("audio", { controls: true, preload: "metadata", "aria-label": titleOf(job) }), url)
  if (!media_type.startsWith("video/")) return el("p.answer", {}, `${humanize(output.name)}: ${media_type}, ${size(bytes ?? 0)}`)
  const preload = bytes < SMALL ? "auto" : "metadata"
  return frame(sourced(el("video.picture", { controls: true, loop: true, playsInline: true, preload, "aria-label": titleOf(job), ...sized(meta) }), url))
}

/** @param {HTMLElement} picture */
export function frame(picture) {
  return el("div.frame", {}, picture)
}

/** Width and height keep the place of a picture that is still loading. @param {any} meta */
function sized(meta) {
  return meta?.width && meta?.height ? { width: meta.width, height: meta.height } : {}
}

/** The files that went in, small. @param {{inputs?: Record<string, string>}} job */
export function sources({ inputs = {} }) {
  const shown = Object.entries(inputs).map(([name, id]) => source(name, artifactUrl(id)))
  return shown.length ? el("div.sources", {}, ...shown) : null
}

/** @param {string} name of the input @param {string} url */
function source(name, url) {
  const kind = mediaOf(name)
  if (kind === "video") return sourced(el("video", { muted: true, preload: "metadata", "aria-label": "The video that was given" }), url)
  return kind === "image" ? sourced(el("img", { alt: "The image that was given", loading: "lazy" }), url) : el("span.muted", {}, humanize(name))
}

/** What was asked for, in one line. @param {any} job */
export function titleOf(job) {
  const prompt = job.params?.prompt
  if (typeof prompt === "string" && prompt.trim()) return prompt.trim()
  return job.task ? taskWords(job.task).title : "…"
}

/** Model, seed, time. @param {import("./job.js").Job} job */
export function facts(job) {
  const seed = job.seed ?? job.params.seed
  const took = job.cached ? "an earlier result" : job.timings?.total_ms ? duration(job.timings.total_ms) : ""
  const told = [job.model, seed === undefined || seed === null ? "" : `seed ${seed}`, took, when(job.finished_at ?? job.created_at)]
  return el("p.facts", {}, ...told.filter(Boolean).map((fact) => el("span", {}, fact)))
}

/** The parameters, folded. @param {import("./job.js").Job} job */
export function parameters(job) {
  const rows = Object.entries(job.params).map(([name, value]) => el("div", {}, el("dt", {}, humanize(name)), el("dd", {}, value === null || value === "" ? "–" : String(value))))
  return el("details.parameters", {}, el("summary", {}, "Parameters"), el("dl", {}, ...rows))
}
