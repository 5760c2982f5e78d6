// @ts-check
// How the Studio says things. What is not listed gets a name made of its own.

/** @type {Record<string, {slug: string, title: string, lead: string, action: string, empty: string}>} */
const TASKS = {
  "video.understand": {
    slug: "understand",
    title: "Understand",
    lead: "Show a video or an image and ask about it.",
    action: "Ask",
    empty: "The answer appears here, word by word.",
  },
  "image.generate": {
    slug: "image",
    title: "Image",
    lead: "Describe a picture and watch it form.",
    action: "Make the image",
    empty: "The picture forms here, step by step.",
  },
  "video.generate": {
    slug: "video",
    title: "Video",
    lead: "Describe a scene, with a first picture if you like.",
    action: "Make the video",
    empty: "Previews appear here, then the video.",
  },
}

const ORDER = Object.keys(TASKS)

/** Names of a task. @param {string} task */
export function taskWords(task) {
  const title = humanize(task)
  return (
    TASKS[task] ?? { slug: task, title, lead: "", action: "Run", empty: "The result appears here." }
  )
}

/** Known tasks first, in their order. @param {string} a @param {string} b */
export function compareTasks(a, b) {
  const place = (/** @type {string} */ task) => (ORDER.includes(task) ? ORDER.indexOf(task) : ORDER.length)
  return place(a) - place(b) || a.localeCompare(b)
}

/** `max_new_tokens` → `Max new tokens`. @param {string} name */
export function humanize(name) {
  const text = name.replaceAll(/[._]+/g, " ").trim()
  return text.charAt(0).toUpperCase() + text.slice(1)
}

/** @param {number} n @param {string} noun */
export function plural(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"]
  let value = bytes
  while (value >= 1000 && units.length > 1) {
    value /= 1000
    units.shift()
  }
  return `${units[0] === "bytes" || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[0]}`
}

/** @param {number} ms */
export function duration(ms) {
  const seconds = ms / 1000
  if (seconds < 0.1) return `${Math.max(1, Math.round(ms))} ms`
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 90) return `${Math.round(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return `${Math.round(seconds / 3600)} h`
}

/** A wait, of which nobody wants to know tenths. @param {number} ms */
export function wait(ms) {
  return ms < 10_000 ? `${Math.max(1, Math.ceil(ms / 1000))} s` : duration(ms)
}

/** @param {number} at ms since 1970 */
export function when(at) {
  return new Date(at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })
}

const SHORT = /** @type {Record<string, string>} */ ({ "video/quicktime": "MOV", "video/x-matroska": "MKV" })

/** The first of these bytes' media types as people call it. @param {string[]} types */
export function mediaNames(types) {
  const names = types.map((type) => SHORT[type] ?? (type.split("/")[1] ?? type).toUpperCase())
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} or ${names.at(-1)}` : (names[0] ?? "a file")
}

const ERRORS = /** @type {Record<string, string>} */ ({
  overloaded: "The queue is full at the moment.",
  unavailable: "The model is not ready at the moment.",
  draining: "The server is about to restart.",
  cancelled: "Cancelled.",
  expired: "The time for this job was over before it ended.",
  timeout: "The server did not answer in time.",
  out_of_memory: "This does not fit into the memory of the machine. Try a smaller size.",
  poison_job: "This request stopped the model again and again, so it was given up.",
  node_crashed: "The model stopped while it worked on this.",
  node_hung: "The model hung while it worked on this.",
  stage_failed: "An earlier stage did not succeed.",
  artifact_not_found: "The file is not on the server any more. Choose it again.",
})

/**
 * An error in words: for whom looks at the field it concerns, or at the whole.
 * @param {{code?: string, message?: string}} error
 */
export function errorWords(error) {
  const known = ERRORS[error.code ?? ""]
  if (known) return known
  const message = error.message || "The server refused this and did not say why."
  return message.charAt(0).toUpperCase() + message.slice(1)
}
